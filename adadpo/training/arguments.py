"""A run's settings as arguments of transformers' Trainer, for one process or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from adadpo.config import RunConfig, TrainSettings
from adadpo.training.processes import ALONE, COMPUTE_TIMEOUT, Processes
from adadpo.training.resume_points import KEPT
from adadpo.training.trainer import AdaDPOConfig


def trainer_arguments(config: RunConfig, folder: Path, processes: Processes = ALONE) -> AdaDPOConfig:
    """The run's settings in transformers' words.

    Raises:
        ValueError: the processes cannot share a batch evenly.
    """
    settings, on_gpu = config.train, torch.cuda.is_available()
    accumulation = settings.accumulation_steps(processes.size)
    options = config.method.identity()
    loss, beta = options.pop("loss"), options.pop("beta")
    return AdaDPOConfig(
        output_dir=str(folder / "checkpoints"),
        method=loss,
        method_options=options,
        beta=beta,
        forward=settings.forward,
        batching=settings.batching,
        mean_over="step",
        precompute_ref_log_probs=True,  # they are in the rows already: no second model is loaded
        per_device_train_batch_size=settings.batch_size // (accumulation * processes.size),
        gradient_accumulation_steps=accumulation,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=settings.warmup,  # below 1 it is a share of the steps
        optim=settings.optimizer,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        max_length=settings.max_length,
        bf16=settings.precision == "bfloat16",
        gradient_checkpointing=settings.gradient_checkpointing,
        seed=config.seed,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would hide a diverged run
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        save_strategy="no" if settings.checkpoint_steps is None else "steps",
        save_steps=settings.checkpoint_steps or 500,
        save_total_limit=KEPT,
        **(_together(processes, settings) if processes.size > 1 else {}),
    )


def _together(processes: Processes, settings: TrainSettings) -> dict[str, Any]:
    """How several processes share the run."""
    common = {
        "ddp_backend": None if torch.cuda.is_available() else "gloo",
        # Every trained weight takes part in every pair. But DDP then re-sorts its buckets after its first step, which
        # adds up the gradients of more than two processes in another order: on a CPU, where an interrupted run ends in
        # the bytes of an undisturbed one, they stay as they are. (False, four processes killed in training: one of two
        # tries ended in other bytes; two processes, whose sums have one order, in the same.)
        "ddp_find_unused_parameters": not torch.cuda.is_available(),
        "ddp_timeout": int(COMPUTE_TIMEOUT.total_seconds()),
    }
    if processes.strategy == "fsdp":
        # FSDP2, layer by layer; checkpoints in shards, each written by its process.
        shards = {"version": 2, "state_dict_type": "SHARDED_STATE_DICT", "reshard_after_forward": True}
        return common | {"fsdp": True, "fsdp_config": shards}
    return common | ({"deepspeed": zero3(settings)} if processes.strategy == "zero3" else {})


def zero3(settings: TrainSettings) -> dict[str, Any]:
    """DeepSpeed's configuration: ZeRO stage 3 with the arithmetic of one process (weights in float32, autocast).

    "auto" is filled in by transformers from the trainer's arguments.
    """
    return {
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,  # weights keep their type: float32
        },
        "torch_autocast": {"enabled": settings.precision == "bfloat16", "dtype": "bfloat16"},
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
