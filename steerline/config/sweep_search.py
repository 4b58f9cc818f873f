"""How a sweep looks for good points, which trials it stops early, and when it ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit


class MetricSpec(Spec):
    """A metric that points are judged by."""

    name: str
    """As the trials record it, e.g. `eval/id/accuracy` or `heldout/loss`."""
    goal: Literal["max", "min"]
    """Whether more or less of it is better."""

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.goal == "max" else -1


class GridSearch(Spec):
    """Every combination of the axes' values."""

    kind: Literal["grid"] = "grid"
    """Kind of search."""


class RandomSearch(Spec):
    """Draws from the axes; the grid axes, if any, are gone through for each draw of the others."""

    kind: Literal["random"]
    """Kind of search."""
    num_points: int = Field(ge=1)
    """Draws."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draws."""


class TpeSearch(Spec):
    """Optuna's tree-structured Parzen estimator, which learns from the finished points; several metrics are searched
    for their Pareto front."""

    kind: Literal["tpe"]
    """Kind of search."""
    num_points: int = Field(ge=1)
    """Points to propose."""
    num_startup: int = Field(default=10, ge=1)
    """Random points before it starts to learn."""
    seed: int = Field(default=0, ge=0)
    """Seed of the proposals."""


Search = Annotated[GridSearch | RandomSearch | TpeSearch, Field(discriminator="kind")]
"""How points are found."""


class FifoScheduler(Spec):
    """Every trial runs to its end."""

    kind: Literal["fifo"] = "fifo"
    """Kind of scheduler."""


class AshaScheduler(Spec):
    """Asynchronous successive halving: at each rung only the best 1 in `reduction_factor` go on."""

    kind: Literal["asha"]
    """Kind of scheduler."""
    metric: MetricSpec | None = None
    """What it compares, recorded while training; none takes the sweep's first metric."""
    grace_steps: int = Field(default=1, ge=1)
    """Steps before the first rung."""
    reduction_factor: float = Field(default=3, gt=1)
    """Steps between rungs grow by this factor."""


class MedianScheduler(Spec):
    """Stops a trial whose best value is worse than the median of the others' running means."""

    kind: Literal["median"]
    """Kind of scheduler."""
    metric: MetricSpec | None = None
    """What it compares, recorded while training; none takes the sweep's first metric."""
    grace_steps: int = Field(default=1, ge=1)
    """Steps before a trial may be stopped."""
    min_trials: int = Field(default=3, ge=1)
    """Trials that must have come as far."""


class UnusableScheduler(Spec):
    """Named so that the refusal can say why."""

    kind: Literal["pbt", "pb2", "hyperband", "bohb"]
    """Kind of scheduler."""

    @model_validator(mode="after")
    def _cannot_be_carried_out(self) -> UnusableScheduler:
        how = "copies one trial's weights into another" if self.kind in ("pbt", "pb2") else "pauses trials"
        raise misfit(
            f"`{self.kind}` {how} through Tune's checkpoints, which trials that run Ray Train do not have; "
            "Ray would run it without doing so and without saying so",
            "kind",
            expected="fifo | asha | median",
            fix="use `asha`",
        )


Scheduler = Annotated[FifoScheduler | AshaScheduler | MedianScheduler | UnusableScheduler, Field(discriminator="kind")]
"""Which trials are stopped early."""


class BudgetSpec(Spec):
    """When a sweep starts no further trial, and how many run at once."""

    trials: int | None = Field(default=None, ge=1)
    """Trials in all: points times seeds, with the baseline's and the controls'."""
    wall_time_s: float | None = Field(default=None, gt=0)
    """Seconds in all, over restarts. Trials that are going then save a checkpoint and stop."""
    tokens: int | None = Field(default=None, ge=1)
    """Training tokens in all, padding included."""
    retries: int = Field(default=1, ge=0)
    """Further attempts at a trial that failed for a reason that another attempt may not meet."""
    max_concurrent: int | None = Field(default=None, ge=1)
    """Trials at once; none takes as many as the cluster holds."""
