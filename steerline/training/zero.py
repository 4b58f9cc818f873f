"""The DeepSpeed configuration that a spec means."""

from __future__ import annotations

from typing import Any

from steerline.config.training import TrainingSpec, ZeroSpec


def deepspeed_config(
    zero: ZeroSpec, training: TrainingSpec, *, accumulation: int, universal: bool = False, overlap: bool = False
) -> dict[str, Any]:
    """The dictionary for `deepspeed.initialize`.

    At stage 0 DeepSpeed is left in its float32 mode, in bf16 too: the master weights live in the optimiser
    (`optimizer.MasterAdamW`), gradients accumulate and are reduced in float32, and clipping is the engine's.

    Args:
        zero: the stage and what it offloads.
        training: batch, precision and clipping.
        accumulation: micro-batches of one worker per optimiser step.
        universal: the checkpoint that will be loaded is a universal one.
        overlap: reduce gradients while others are computed; needs streams, so a GPU.
    """
    partitioned = zero.stage > 0
    elements = zero.bucket_bytes // 4
    optimization: dict[str, Any] = {
        "stage": zero.stage,
        "reduce_bucket_size": elements,
        "allgather_bucket_size": elements,
        "overlap_comm": overlap,
    }
    if zero.offload_optimizer:
        optimization["offload_optimizer"] = {"device": "cpu"}
    if zero.offload_parameters:
        optimization["offload_param"] = {"device": "cpu"}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": (training.clip_norm or 0.0) if partitioned else 0.0,
        "bf16": {"enabled": partitioned and training.precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_force_ds_cpu_optimizer": False,
        "checkpoint": {"load_universal": universal},
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }
    # The spec has refused keys in it that are set here.
    raw = dict(zero.raw)
    config["zero_optimization"] = {**optimization, **raw.pop("zero_optimization", {})}
    return {**config, **raw}
