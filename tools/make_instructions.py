"""Makes `train.jsonl`, `heldout.jsonl`, `evaluation.json` and `README.md` of this folder from `topics.txt`.

    python -m tools.make_instructions [--samples FILE]

Every training and held-out instruction gets SAMPLES answers of the embedded model; the verifier scores them;
the best and the worst make a pair. About 10 minutes on one core. Running it again on the same machine gives
the same files; `--samples FILE` keeps the raw answers and reuses them, for work on what comes after sampling.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from string import Template
from typing import Any

from analysis.judges.verifier import Constraint, holds, in_words, is_degenerate, is_on_topic, score
from sweeps.data import BUILTIN_INSTRUCTIONS, Split, builtin_instructions_path

DATA = Path(__file__).parents[1] / "sweeps" / "data"

MODEL = "smollm2-135m-instruct"
SEED = 0
SAMPLES = 8  # answers per instruction
TEMPERATURE, TOP_P = 0.8, 0.95  # at 1.0 and 1.0 a third of what this model writes is no English
MAX_NEW_TOKENS = 48  # what pairs cost in training; answers that do not end by then are not used
BATCH = 8  # instructions at once, times SAMPLES
THREADS = (
    1  # a fixed number, since sums are rounded by how they are split; one is also quicker beside other work
)
# "Be brief." costs 8 tokens; without a system message the model's template adds a default one of 21.
SYSTEM = {"role": "system", "content": "Be brief."}

TOPICS: dict[Split, int] = {"evaluation": 64, "heldout": 32, "train": 110}
INSTRUCTIONS: dict[Split, int] = {"evaluation": 64, "heldout": 44, "train": 144}

REQUESTS = {
    "do": ("Give a tip for {}.", "Why do people enjoy {}?", "What helps with {}?"),
    "thing": ("Describe {}.", "What is good about {}?", "Tell me about {}."),
}
# Kinds that this model meets between about 15% and 85% of the time: README.md has the rates. They pull the same
# way (short, plain, one sentence), so that a hundred pairs teach something that shows on other instructions.
_SHORT: Constraint = {"kind": "max_words", "value": 15}
_MEDIUM: Constraint = {"kind": "max_words", "value": 20}
_ONE: Constraint = {"kind": "sentences", "value": 1}
_NO_COMMAS: Constraint = {"kind": "no_commas"}
_NO_AND: Constraint = {"kind": "excludes", "value": "and"}
COMBINATIONS: tuple[tuple[Constraint, Constraint], ...] = (
    (_SHORT, _NO_COMMAS),
    (_MEDIUM, _NO_AND),
    (_ONE, _NO_COMMAS),
    (_SHORT, _NO_AND),
    (_MEDIUM, _NO_COMMAS),
    (_ONE, _NO_AND),
    (_NO_COMMAS, _NO_AND),
)


@dataclass(frozen=True)
class Instruction:
    """A request with its constraints in words, and what the verifier needs."""

    topic: str
    text: str
    constraints: tuple[Constraint, ...]
    keywords: tuple[str, ...]

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt as messages."""
        return [SYSTEM, {"role": "user", "content": self.text}]


def instructions() -> dict[Split, list[Instruction]]:
    """All instructions by split: the same every time, with topics that no two splits share."""
    lines = (DATA / "topics.txt").read_text("utf-8").splitlines()
    topics = [tuple(part.strip() for part in line.split("|")) for line in lines if line and line[0] != "#"]
    rng = random.Random(SEED)
    rng.shuffle(topics)
    made: dict[Split, list[Instruction]] = {}
    for split, count in TOPICS.items():
        mine, topics = topics[:count], topics[count:]
        made[split] = []
        for number in range(INSTRUCTIONS[split]):
            again, place = divmod(number, count)
            kind, topic, keywords = mine[place]
            # Both step on with `again`, so that a topic's second instruction differs in both.
            request = REQUESTS[kind][(place + place // 9 + again) % len(REQUESTS[kind])]
            constraints = COMBINATIONS[(number + again) % len(COMBINATIONS)]
            text = " ".join([request.format(topic), *map(in_words, constraints)])
            made[split].append(Instruction(topic, text, constraints, tuple(keywords.split(", "))))
    return made


def sample(wanted: Sequence[Instruction]) -> list[list[dict[str, Any]]]:
    """SAMPLES answers for each instruction: `text`, its `tokens`, `complete` if it ended by itself."""
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from adadpo.models.load import load_model, load_tokenizer, resolve_model

    torch.set_num_threads(THREADS)
    source = resolve_model(MODEL)
    tokenizer, model = load_tokenizer(source, padding_side="left"), load_model(source, torch.bfloat16)
    prompts = [
        tokenizer.apply_chat_template(one.messages, tokenize=False, add_generation_prompt=True)
        for one in wanted
    ]
    answers: list[list[dict[str, Any]]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("Sampling answers", total=len(prompts))
        for start in range(0, len(prompts), BATCH):
            batch = tokenizer(prompts[start : start + BATCH], padding=True, return_tensors="pt")
            torch.manual_seed(SEED + start)  # a batch does not depend on those before it
            generated = model.generate(
                **batch,
                do_sample=True,
                temperature=TEMPERATURE,
                top_p=TOP_P,
                top_k=0,
                num_return_sequences=SAMPLES,
                max_new_tokens=MAX_NEW_TOKENS,
            )[:, batch["input_ids"].shape[1] :].tolist()
            for number, length in enumerate(batch["attention_mask"].sum(1).tolist()):
                mine = generated[number * SAMPLES : (number + 1) * SAMPLES]
                answers.append([_answer(ids, tokenizer) | {"prompt_tokens": length} for ids in mine])
            progress.advance(task, len(batch["input_ids"]))
    return answers


def _answer(ids: list[int], tokenizer: Any) -> dict[str, Any]:
    complete = tokenizer.eos_token_id in ids
    ids = ids[: ids.index(tokenizer.eos_token_id)] if complete else ids
    text = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return {"text": text, "tokens": len(ids) + complete, "complete": complete}


def make_pairs(
    wanted: Sequence[Instruction], answers: Sequence[Sequence[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The best and the worst complete answer to each instruction, where their scores differ; the first of equals."""
    pairs: list[dict[str, Any]] = []
    for one, its_answers in zip(wanted, answers, strict=True):
        usable = [
            answer | {"score": score(answer["text"], one.constraints, one.keywords)}
            for answer in its_answers
            if answer["complete"] and not is_degenerate(answer["text"])
        ]
        if len({answer["score"] for answer in usable}) < 2:
            continue
        chosen = max(usable, key=lambda answer: answer["score"])
        rejected = min(usable, key=lambda answer: answer["score"])
        pairs.append(
            {
                "instruction": one,
                "prompt_tokens": chosen["prompt_tokens"],
                "chosen": chosen,
                "rejected": rejected,
            }
        )
    return pairs


def pass_rates(
    wanted: Sequence[Instruction], answers: Sequence[Sequence[dict[str, Any]]]
) -> dict[str, tuple[int, float]]:
    """For each constraint in words: how many answers were asked to meet it, and the share that did."""
    met: dict[str, list[bool]] = {}
    for one, its_answers in zip(wanted, answers, strict=True):
        for constraint in one.constraints:
            met.setdefault(in_words(constraint), []).extend(holds(a["text"], constraint) for a in its_answers)
    return {stated: (len(each), mean(each)) for stated, each in sorted(met.items())}


def _row(pair: dict[str, Any]) -> dict[str, Any]:
    # No other columns: TRL decides whether a row is conversational by looking at any one of them.
    return {"prompt": pair["instruction"].messages} | {
        side: [{"role": "assistant", "content": pair[side]["text"]}] for side in ("chosen", "rejected")
    }


def _evaluation_row(one: Instruction) -> dict[str, Any]:
    return {
        "instruction": one.text,
        "prompt": one.messages,
        "dataset": BUILTIN_INSTRUCTIONS,
        "constraints": list(one.constraints),
        "keywords": list(one.keywords),
    }


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    temporary.replace(file)


def main() -> None:
    """Sample, choose pairs, write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=Path, help="file of raw answers: read if it exists, written if not")
    kept: Path | None = parser.parse_args().samples

    made = instructions()
    wanted = made["train"] + made["heldout"]
    if kept and kept.exists():
        answers = json.loads(kept.read_text("utf-8"))
    else:
        answers = sample(wanted)
        if kept:
            _write(kept, json.dumps(answers))
    count = len(made["train"])
    pairs: dict[Split, list[dict[str, Any]]] = {
        "train": make_pairs(wanted[:count], answers[:count]),
        "heldout": make_pairs(wanted[count:], answers[count:]),
    }
    for split, some in pairs.items():
        lines = [json.dumps(_row(pair), ensure_ascii=False) + "\n" for pair in some]
        _write(builtin_instructions_path(split), "".join(lines))
    evaluation = json.dumps(
        [_evaluation_row(one) for one in made["evaluation"]], ensure_ascii=False, indent=1
    )
    _write(builtin_instructions_path("evaluation"), evaluation + "\n")
    _write(DATA / "README.md", readme(made, answers, pairs))


def readme(
    made: dict[Split, list[Instruction]],
    answers: Sequence[Sequence[dict[str, Any]]],
    pairs: dict[Split, list[dict[str, Any]]],
) -> str:
    """The page that describes the files, with its numbers filled in."""
    wanted = made["train"] + made["heldout"]
    flat = [(one, answer) for one, some in zip(wanted, answers, strict=True) for answer in some]
    scores = [score(answer["text"], one.constraints, one.keywords) for one, answer in flat]
    files = []
    for split, all_of_it in made.items():
        path = builtin_instructions_path(split)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows = len(pairs.get(split, all_of_it))
        files.append(f"| `{path.name}` | {rows} | {len(all_of_it)} | {TOPICS[split]} | {digest} |")
    template = Template((DATA / "README.template.md").read_text("utf-8"))
    return template.substitute(
        files="\n".join(files),
        system=SYSTEM["content"],
        model=MODEL,
        samples=SAMPLES,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        max_new_tokens=MAX_NEW_TOKENS,
        seed=SEED,
        lengths="\n".join(_lengths(split, some) for split, some in pairs.items()),
        answers=len(flat),
        rates="\n".join(
            f"| {stated} | {number} | {rate:.0%} |"
            for stated, (number, rate) in pass_rates(wanted, answers).items()
        ),
        complete=f"{mean(answer['complete'] for _, answer in flat):.0%}",
        on_topic=f"{mean(is_on_topic(answer['text'], one.keywords) for one, answer in flat):.0%}",
        both=f"{mean(value == 1 for value in scores):.0%}",
        score=f"{mean(scores):.2f}",
    )


def _lengths(split: Split, pairs: Sequence[dict[str, Any]]) -> str:
    gaps = [pair["chosen"]["tokens"] - pair["rejected"]["tokens"] for pair in pairs]
    numbers = [f"{mean(pair['prompt_tokens'] for pair in pairs):.1f}"]
    numbers += [f"{mean(pair[side]['tokens'] for pair in pairs):.1f}" for side in ("chosen", "rejected")]
    numbers += [f"{mean(gap < 0 for gap in gaps):.0%}", f"{mean(gap > 0 for gap in gaps):.0%}"]
    numbers += [f"{mean(pair[side]['score'] for pair in pairs):.2f}" for side in ("chosen", "rejected")]
    return f"| {split} | {' | '.join(numbers)} |"


if __name__ == "__main__":
    main()
