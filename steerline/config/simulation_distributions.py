"""How facts about the agents of a population are spread: one distribution for each fact, drawn for each agent."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit

Bounds = tuple[float, ...]
"""Where ranges begin and end, ascending: (18, 65) makes `below 18`, `18 to 65` and `65 or more`."""


class UniformDistribution(Spec):
    """Any number of a range, all equally likely."""

    kind: Literal["uniform"]
    low: float
    """Smallest."""
    high: float
    """Largest."""

    @model_validator(mode="after")
    def _is_a_range(self) -> UniformDistribution:
        if not self.low < self.high:
            raise misfit("the range is empty", "high", "low", expected=f"above {self.low:g}")
        return self


class IntegerDistribution(Spec):
    """Any whole number of a range, all equally likely."""

    kind: Literal["integer"]
    low: int
    """Smallest."""
    high: int
    """Largest; it is drawn too."""

    @model_validator(mode="after")
    def _is_a_range(self) -> IntegerDistribution:
        if self.low > self.high:
            raise misfit("the range is empty", "high", "low", expected=f"at least {self.low}")
        return self


class NormalDistribution(Spec):
    """A normal number, cut off at limits if there are any (truncated, not clipped)."""

    kind: Literal["normal"]
    mean: float
    """Mean before it is cut off."""
    std: float = Field(gt=0)
    """Standard deviation before it is cut off."""
    low: float | None = None
    """Smallest; none has no limit."""
    high: float | None = None
    """Largest; none has no limit."""

    @model_validator(mode="after")
    def _leaves_something(self) -> NormalDistribution:
        low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
        if not low < high:
            raise misfit("the range is empty", "high", "low", expected=f"above {low:g}")
        # Further out, the tail is thinner than what a double can tell from 0 and 1.
        if min(abs(self.mean - low), abs(self.mean - high)) > 6 * self.std and not low < self.mean < high:
            raise misfit("nearly nothing of the distribution lies between the limits", "low", "high", "mean")
        return self


class LogNormalDistribution(Spec):
    """A number whose logarithm is normal, such as an income."""

    kind: Literal["log_normal"]
    median: float = Field(gt=0)
    """Median."""
    sigma: float = Field(gt=0)
    """Standard deviation of the natural logarithm."""


class WeightedDistribution(Spec):
    """One of several values, by weight."""

    kind: Literal["weighted"]
    weights: dict[str, float] = Field(min_length=1)
    """Value to its weight; weights need not sum to 1."""

    @model_validator(mode="after")
    def _weighs_something(self) -> WeightedDistribution:
        if min(self.weights.values()) < 0 or not 0 < sum(self.weights.values()) < math.inf:
            raise misfit("the weights give no distribution", "weights", expected="none below 0, and a sum above 0")
        return self


DistributionSpec = Annotated[
    UniformDistribution | IntegerDistribution | NormalDistribution | LogNormalDistribution | WeightedDistribution,
    Field(discriminator="kind"),
]


def check_bounds(bins: dict[str, Bounds], columns: tuple[str, ...]) -> None:
    """See that ranges ascend and belong to facts that are written out.

    Raises:
        PydanticCustomError: they do not.
    """
    for column, bounds in bins.items():
        if column not in columns:
            raise misfit(f"{column} is not written out", "bins", "traits", expected=" | ".join(columns) or "a trait")
        if not bounds or any(a >= b for a, b in pairwise(bounds)):
            raise misfit(f"the bounds of {column} do not ascend", "bins", expected="e.g. [18, 65]")
