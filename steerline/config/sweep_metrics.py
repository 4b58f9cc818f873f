"""Which metrics a job records, told from its config alone."""

from __future__ import annotations

from dataclasses import dataclass

from steerline.config.evaluation import metric_name
from steerline.config.finetune import FinetuneSpec
from steerline.config.residual_fit import ResidualFitSpec
from steerline.config.simulate import SimulateSpec
from steerline.config.sweep import BaseSpec


@dataclass(frozen=True)
class Recorded:
    """Names of metrics.

    Args:
        final: known when the job has ended.
        along: recorded as it goes, so that it can be stopped by them.
    """

    final: frozenset[str]
    along: frozenset[str]


def recorded(spec: BaseSpec) -> Recorded | None:
    """The metrics by which a sweep of this job can judge; none where only the job's own code can tell."""
    if isinstance(spec, SimulateSpec):
        return None
    if isinstance(spec, ResidualFitSpec):
        names = [split.name for split in spec.splits]
        stages = ["before", *(f"fitted_on_{name}" for name in names)]
        final = {f"{stage}/{name}/{what}" for stage in stages for name in names for what in ("accuracy", "loss")}
        return Recorded(frozenset(final), frozenset())
    along: set[str] = set()
    if isinstance(spec, FinetuneSpec):
        along |= {"train/loss", "train/loss_ce"}
        if spec.data.heldout:
            along |= {"heldout/loss", "heldout/loss_ce"}
        if spec.classes is not None:
            along |= {name.replace("loss", "accuracy") for name in along if name.endswith("/loss")}
    judged = {task.name for task in spec.evaluation.tasks} | {task.group for task in spec.evaluation.tasks}
    return Recorded(frozenset(along | {f"eval/{metric_name(name)}/accuracy" for name in judged}), frozenset(along))


def training_tokens(spec: BaseSpec, steps: int | None = None) -> int | None:
    """Tokens of so many steps, padding included and rows full; of the whole run where no number is given.

    None where the job trains nothing, or where its length is a number of epochs.
    """
    if not isinstance(spec, FinetuneSpec):
        return None
    steps = spec.training.num_steps if steps is None else steps
    return None if steps is None else steps * spec.training.global_batch_size * spec.data.max_length_tokens
