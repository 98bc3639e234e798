"""One run of a sweep as an ordinary script: what a researcher writes with TRL, transformers and a loop in the shell.

    python bench/trl_script.py '{"model": FOLDER, "out": FOLDER, "seed": 0, "beta": 0.1, "learning_rate": 1e-3, ...}'

It does the work of one run of the quickstart: train by DPO with LoRA on the built-in pairs, score the held-out pairs,
answer the evaluation prompts in batches by `generate`, estimate the KL on some of them, judge by the same rubric. The
untrained model's answers are asked for once, by the first run (`baseline`). TRL's defaults stand where the sweep file
says nothing (gradient checkpointing among them); `tuned` is what a careful user writes: frozen weights in bfloat16, no
gradient checkpointing, the reference's log-probabilities computed once before training.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

START = time.perf_counter()


def main(job: dict[str, Any]) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from sweeps.config.evaluation import prompt_messages
    from sweeps.data import load_evaluation, load_preferences

    out, tuned = Path(job["out"]), job["tuned"]
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=torch.bfloat16 if tuned else torch.float32
    )
    train = Dataset.from_list(load_preferences("train"))
    heldout = Dataset.from_list(load_preferences("heldout")[: job["heldout"]])
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            output_dir=str(out / "checkpoints"), beta=job["beta"], learning_rate=job["learning_rate"],
            per_device_train_batch_size=job["batch_size"], per_device_eval_batch_size=job["batch_size"],
            max_steps=job["max_steps"], max_length=job["max_length"], warmup_steps=0,
            lr_scheduler_type="cosine", seed=job["seed"], logging_steps=1, save_strategy="no", report_to="none",
            use_cpu=not torch.cuda.is_available(), bf16=True, disable_tqdm=True,
            **({"gradient_checkpointing": False, "precompute_ref_log_probs": True} if tuned else {}),
        ),
        train_dataset=train,
        eval_dataset=heldout,
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        ),
    )  # fmt: skip
    times = {"ready": time.perf_counter() - START}
    trainer.train()
    times["trained"] = time.perf_counter() - START
    metrics = trainer.evaluate()
    trainer.save_model(str(out / "adapter"))
    times["evaluated"] = time.perf_counter() - START

    prompts = load_evaluation()
    policy = trainer.model.eval()
    # Answers in the precision of training: else half of a script's time goes into float32 products.
    policy = policy.to(torch.bfloat16)
    torch.manual_seed(job["seed"])
    answers, sequences = generate(policy, tokenizer, [prompt_messages(p) for p in prompts], job)
    if job["baseline"]:
        with policy.disable_adapter():
            generate(policy, tokenizer, [prompt_messages(p) for p in prompts], job)
    times["generated"] = time.perf_counter() - START
    kl = estimate_kl(policy, sequences[: job["kl_prompts"]])
    times["done"] = time.perf_counter() - START
    (out / "result.json").write_text(
        json.dumps({"metrics": metrics, "kl": kl, "answers": answers, "times": times})
    )


def generate(
    policy: Any, tokenizer: Any, prompts: list[Any], job: dict[str, Any]
) -> tuple[list[str], list[Any]]:
    """Batches in the order of the prompts; text, and (row, where the answer begins)."""
    import torch

    texts: list[str] = []
    rows: list[Any] = []
    for start in range(0, len(prompts), job["generate_batch"]):
        batch = tokenizer.apply_chat_template(
            prompts[start : start + job["generate_batch"]], add_generation_prompt=True, padding=True,
            padding_side="left", return_tensors="pt", return_dict=True, tokenizer_kwargs={"padding_side": "left"},
        ).to(policy.device)  # fmt: skip
        with torch.inference_mode():
            found = policy.generate(
                **batch, do_sample=True, temperature=0.7, top_k=0, max_new_tokens=job["max_new_tokens"],
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        width = batch["input_ids"].shape[1]
        texts += tokenizer.batch_decode(found[:, width:], skip_special_tokens=True)
        rows += [(row, width, mask) for row, mask in zip(found, batch["attention_mask"], strict=True)]
    return texts, rows


def estimate_kl(policy: Any, rows: list[Any]) -> float:
    """Mean log-ratio of the answers' tokens, one row at a time."""
    import torch

    found = []
    for row, width, mask in rows:
        ids = torch.cat([row[:width][mask.bool()], row[width:]])[None]
        start = int(mask.sum())
        with torch.inference_mode():
            own = policy(ids).logits[0, start - 1 : -1].float().log_softmax(-1)
            with policy.disable_adapter():
                other = policy(ids).logits[0, start - 1 : -1].float().log_softmax(-1)
        chosen = ids[0, start:, None]
        found.append(float((own.gather(1, chosen) - other.gather(1, chosen)).sum()))
    return sum(found) / len(found)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
