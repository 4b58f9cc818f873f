"""A sweep: many runs of one base config that differ along the axes of a space."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from steerline.config.base import NOT_IDENTITY, Spec, misfit
from steerline.config.cluster import ClusterSpec
from steerline.config.evaluate import EvaluateSpec
from steerline.config.finetune import FinetuneSpec
from steerline.config.residual_fit import ResidualFitSpec
from steerline.config.simulate import SimulateSpec
from steerline.config.sweep_search import BudgetSpec, FifoScheduler, GridSearch, MetricSpec, Scheduler, Search
from steerline.config.sweep_space import Axis, ListAxis, RangeAxis
from steerline.config.tracking import TrackingSpec

BaseSpec = Annotated[FinetuneSpec | ResidualFitSpec | EvaluateSpec | SimulateSpec, Field(discriminator="kind")]
"""The kinds of job that a sweep can run; how it runs them says `steerline.sweeps.kinds`."""

Changes = dict[str, JsonValue]
"""Dotted paths of the base config and the values laid over them, as with `--set`."""


class SweepSpec(Spec):
    """A sweep, whole."""

    kind: Literal["sweep"] = "sweep"
    """Kind of job."""
    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$", json_schema_extra=NOT_IDENTITY)
    """Readable part of the sweep's name."""
    base: BaseSpec
    """The config that every trial starts from. In a file it may be `{extends: other.yaml, ...}`."""
    space: dict[str, Axis] = Field(min_length=1)
    """Dotted path of the base config to its axis, e.g. `objective.steering.boost.scale`."""
    search: Search = GridSearch()
    """How points are found."""
    scheduler: Scheduler = Field(default=FifoScheduler(), json_schema_extra=NOT_IDENTITY)
    """Which trials are stopped early."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Every point is run once with each of these values of the base's `seed`, so that points are compared in pairs."""
    metrics: tuple[MetricSpec, ...] = Field(min_length=1)
    """What points are judged by; the first decides, several give a Pareto front."""
    baseline: Changes | None = None
    """What turns the base config into the one to beat, e.g. `{objective.steering.boost: null}`; run with every seed."""
    controls: dict[str, Changes] = Field(default_factory=dict)
    """Placebos by name: changes on top of the best point, which it must beat too; run with every seed at the end."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of the intervals; one minus it is the error rate of the tests."""
    budget: BudgetSpec = Field(default=BudgetSpec(), json_schema_extra=NOT_IDENTITY)
    """When it ends."""

    @property
    def tracking(self) -> TrackingSpec:
        """Where the sweep and its trials are recorded: as the base says."""
        return self.base.tracking

    @property
    def cluster(self) -> ClusterSpec:
        """Where each trial runs: as the base says."""
        return self.base.cluster

    @model_validator(mode="after")
    def _names_are_distinct(self) -> SweepSpec:
        if len(set(self.seeds)) != len(self.seeds):
            raise misfit("a seed is named twice, and would be run twice", "seeds", expected="each seed once")
        names = [metric.name for metric in self.metrics]
        if len(set(names)) != len(names):
            raise misfit("a metric is named twice", "metrics", expected="each metric once")
        if "seed" in self.space:
            raise misfit("`seed` is no axis: points are compared over seeds", "space", fix="list the values in `seeds`")
        return self

    @model_validator(mode="after")
    def _axes_suit_the_search(self) -> SweepSpec:
        for path, axis in self.space.items():
            if self.search.kind == "grid" and axis.kind != "grid":
                raise misfit(
                    f"a grid search goes through every value of `{path}`, and `{axis.kind}` has none to go through",
                    "space",
                    fix="use `kind: grid` with `values`, or `search: {kind: random, num_points: 20}`",
                )
            if self.search.kind == "tpe" and axis.kind == "grid":
                raise misfit(
                    f"the search proposes each point itself, so `{path}` cannot be gone through",
                    "space",
                    fix="use `kind: choice`",
                )
            self._check_condition(path, axis)
        return self

    def _check_condition(self, path: str, axis: ListAxis | RangeAxis) -> None:
        earlier = list(self.space)[: list(self.space).index(path)]
        for other, values in axis.when.items():
            if other not in earlier:
                raise misfit(
                    f"`{path}` depends on `{other}`, which is no axis above it",
                    "space",
                    expected=" | ".join(earlier) or "an axis that stands above",
                    fix="write the axis that others depend on first",
                )
            source = self.space[other]
            if isinstance(source, ListAxis) and not any(value in source.values for value in values):
                raise misfit(
                    f"`{other}` never has a value under which `{path}` is there",
                    "space",
                    expected=f"some of {list(source.values)}",
                )

    @model_validator(mode="after")
    def _controls_have_a_baseline(self) -> SweepSpec:
        if self.controls and self.baseline is None:
            raise misfit(
                "controls are run at the point that beats the baseline, and there is no baseline",
                "controls",
                fix="set `baseline`, e.g. `{objective.steering.boost: null}`",
            )
        return self
