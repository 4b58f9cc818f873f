"""The optimisation: batch, precision, optimiser, schedule, memory, and how often to look and to save."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from steerline.config.base import NOT_IDENTITY, Spec, misfit
from steerline.config.steering import SteeringSpec

DEEPSPEED_KEYS_WE_SET = {
    "train_batch_size": "set `training.global_batch_size`",
    "train_micro_batch_size_per_gpu": "set `training.micro_batch_size`",
    "gradient_accumulation_steps": "set `training.global_batch_size`, from which it follows",
    "managed_gradient_accumulation": "leave it out: the training loop accumulates",
    "gradient_clipping": "set `training.clip_norm`",
    "gradient_allreduce_op": "leave it out: losses are normalised by the global count of target tokens",
    "gradient_predivide_factor": "leave it out: losses are normalised by the global count of target tokens",
    "prescale_gradients": "leave it out: losses are normalised by the global count of target tokens",
    "optimizer": "set `training.optimizer`",
    "scheduler": "set `training.schedule`",
    "bf16": "set `training.precision`",
    "fp16": "set `training.precision`",
    "amp": "set `training.precision`",
    "torch_autocast": "set `training.precision`",
    "checkpoint": "leave it out: it follows from the checkpoint that is resumed",
    "activation_checkpointing": "set `training.activation_checkpointing`",
    "zero_force_ds_cpu_optimizer": "set `zero.offload_optimizer`",
    "zero_optimization.stage": "set `zero.stage`",
    "zero_optimization.offload_optimizer": "set `zero.offload_optimizer`",
    "zero_optimization.offload_param": "set `zero.offload_parameters`",
    "zero_optimization.reduce_bucket_size": "set `zero.bucket_bytes`",
    "zero_optimization.allgather_bucket_size": "set `zero.bucket_bytes`",
}
"""Dotted DeepSpeed keys that `zero.raw` may not hold, each with what to do instead."""


class BalanceSpec(Spec):
    """Multiply each side loss by a constant so that the terms' gradients start out equally long, times their strength.

    The gradients are those of the first batch, with respect to all trained weights. Strengths then mean shares of the
    base loss's pull and carry over between models.
    """

    kind: Literal["gradient_norm"] = "gradient_norm"
    """How the constants are found."""
    largest: float = Field(default=1e4, gt=0)
    """No constant is larger: a term that hardly pulls is not blown up without end."""


class ObjectiveSpec(Spec):
    """The base loss, with whatever steering acts during training."""

    kind: Literal["causal_lm", "classification"] = "causal_lm"
    """The base loss: next-token cross entropy, or that of one class per row."""
    steering: SteeringSpec = SteeringSpec()
    """What acts inside the forward pass; empty is plain supervised fine-tuning."""
    balance: BalanceSpec | None = None
    """Find the side losses' scale from the first batch; none takes their strengths as they are."""


class OptimizerSpec(Spec):
    """AdamW."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay; biases and norms are left out."""


class ScheduleSpec(Spec):
    """Learning rate over optimiser steps."""

    kind: Literal["constant", "linear", "cosine"] = "linear"
    """Shape after the warm-up; linear and cosine fall to 0 at the last step."""
    warmup_steps: int = Field(default=100, ge=0)
    """Linear rise from 0."""


class ActivationCheckpointingSpec(Spec):
    """Recompute each block's activations in the backward pass to save memory."""

    reentrant: bool = False
    """Refused when on: the reentrant form silently drops the gradients of side losses."""

    @field_validator("reentrant")
    @classmethod
    def _not_reentrant(cls, reentrant: bool) -> bool:
        if reentrant:
            raise misfit(
                "reentrant checkpointing silently drops the gradients of side losses (the key entropy): it runs the "
                "first forward pass without a graph, so training goes on with another loss than the one you asked for",
                expected="false",
                fix="remove the line: the non-reentrant form saves the same memory and gives equal gradients",
            )
        return reentrant


class EarlyStoppingSpec(Spec):
    """End the run when held-out data show no gain, and keep the best weights.

    Every held-out look after the first step counts. The checkpoint of the best one is never removed, and its weights
    are those that are exported, whether the run ended early or not.
    """

    metric: str = Field(default="heldout/loss", pattern="^heldout/")
    """Held-out metric that decides, e.g. `heldout/accuracy` for a classifier."""
    mode: Literal["max", "min"] = "min"
    """Whether more is better (an accuracy) or less (a loss)."""
    patience: int = Field(default=3, ge=1)
    """Looks in a row without a gain after which the run ends."""
    min_delta: float = Field(default=0.0, ge=0)
    """A gain must be larger than this."""

    @model_validator(mode="after")
    def _mode_fits_the_metric(self) -> EarlyStoppingSpec:
        if self.metric in ("heldout/loss", "heldout/loss_ce") and self.mode == "max":
            raise misfit("a loss is better when it is smaller", "mode", expected="min", fix="set `mode: min`")
        if self.metric == "heldout/accuracy" and self.mode == "min":
            raise misfit("an accuracy is better when it is larger", "mode", expected="max", fix="set `mode: max`")
        return self


class TrainingSpec(Spec):
    """One training run."""

    num_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; give this or `num_epochs`."""
    num_epochs: float | None = Field(default=None, gt=0)
    """Passes over the training rows."""
    global_batch_size: int = Field(default=64, ge=1)
    """Rows per optimiser step over all workers; accumulation is derived from it."""
    micro_batch_size: int = Field(default=4, ge=1, json_schema_extra=NOT_IDENTITY)
    """Rows per forward pass on one worker."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16 keeps float32 master weights."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """The optimiser."""
    schedule: ScheduleSpec = ScheduleSpec()
    """The learning rate's course."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest global gradient norm; none does not clip."""
    activation_checkpointing: ActivationCheckpointingSpec | None = None
    """Trade time for memory."""
    log_every_steps: int = Field(default=1, ge=1, json_schema_extra=NOT_IDENTITY)
    """Steps between metric records."""
    heldout_every_steps: int | None = Field(default=None, ge=1, json_schema_extra=NOT_IDENTITY)
    """Steps between held-out losses; none measures before the first and after the last step."""
    heldout_every_epochs: float | None = Field(default=None, gt=0)
    """The same in passes over the training rows; give at most one of the two."""
    early_stopping: EarlyStoppingSpec | None = None
    """End when the held-out data show no gain, and export the best weights; none trains to the end and exports the
    last."""
    save_every_steps: int = Field(default=100, ge=1, json_schema_extra=NOT_IDENTITY)
    """Steps between checkpoints; the last step always saves."""
    keep_checkpoints: int = Field(default=2, ge=1, json_schema_extra=NOT_IDENTITY)
    """Checkpoints kept; at least two survive a torn one."""

    @model_validator(mode="after")
    def _batch_is_made_of_micro_batches(self) -> TrainingSpec:
        if self.global_batch_size % self.micro_batch_size:
            fits = [n for n in range(1, self.global_batch_size + 1) if self.global_batch_size % n == 0]
            raise misfit(
                f"a batch of {self.global_batch_size} rows cannot be made of whole micro batches "
                f"of {self.micro_batch_size}",
                "global_batch_size",
                "micro_batch_size",
                expected="`global_batch_size` = accumulation steps x workers x `micro_batch_size`",
                fix=f"for `global_batch_size: {self.global_batch_size}` set `micro_batch_size` to one of {fits}",
            )
        return self

    @model_validator(mode="after")
    def _looks_are_timed_once(self) -> TrainingSpec:
        if self.heldout_every_steps is not None and self.heldout_every_epochs is not None:
            raise misfit(
                "give at most one of `heldout_every_steps` and `heldout_every_epochs`",
                "heldout_every_steps",
                "heldout_every_epochs",
                fix="set the other one to null if a file below sets it",
            )
        if self.early_stopping and self.heldout_every_steps is None and self.heldout_every_epochs is None:
            raise misfit(
                "early stopping counts held-out looks, and there is none before the last step",
                "early_stopping",
                fix="set `heldout_every_epochs: 1`, or `heldout_every_steps`",
            )
        return self

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> TrainingSpec:
        if (self.num_steps is None) == (self.num_epochs is None):
            raise misfit(
                "give exactly one of `num_steps` and `num_epochs`",
                "num_steps",
                "num_epochs",
                fix="set the other one to null if a file below sets it",
            )
        return self


class ZeroSpec(Spec):
    """DeepSpeed ZeRO: what is partitioned over the workers."""

    stage: Literal[0, 1, 2, 3] = 0
    """0 nothing, 1 optimiser state, 2 gradients too, 3 parameters too."""
    offload_optimizer: bool = False
    """Keep the optimiser's state in host memory (GPU only: on CPU it is there already)."""
    offload_parameters: bool = False
    """Keep parameters in host memory (stage 3)."""
    bucket_bytes: int = Field(default=200_000_000, ge=1_000_000)
    """Size of the communication buckets."""
    raw: dict[str, Any] = Field(default_factory=dict)
    """Further DeepSpeed keys, passed through. Keys that Steerline sets are refused."""

    @model_validator(mode="after")
    def _offload_needs_a_stage(self) -> ZeroSpec:
        if self.offload_parameters and self.stage != 3:
            raise misfit("`offload_parameters` needs stage 3", "offload_parameters", "stage", fix="set `stage: 3`")
        if self.offload_optimizer and self.stage == 0:
            raise misfit(
                "`offload_optimizer` needs stage 1, 2 or 3", "offload_optimizer", "stage", fix="set `stage: 1` or more"
            )
        return self

    @model_validator(mode="after")
    def _raw_leaves_our_keys_alone(self) -> ZeroSpec:
        taken = [(key, ours) for key, ours in DEEPSPEED_KEYS_WE_SET.items() if _has_key(self.raw, key.split("."))]
        if taken:
            raise misfit(
                "DeepSpeed keys that Steerline sets itself: " + ", ".join(f"`{key}`" for key, _ in taken),
                *(f"raw.{key}" for key, _ in taken),
                expected="other DeepSpeed keys",
                fix="; ".join(f"in place of `{key}` {ours}" for key, ours in taken),
            )
        return self


def _has_key(mapping: dict[str, Any], parts: list[str]) -> bool:
    head, *rest = parts
    if head not in mapping or not rest:
        return head in mapping
    return isinstance(mapping[head], dict) and _has_key(mapping[head], rest)
