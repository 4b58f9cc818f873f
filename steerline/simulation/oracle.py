"""What theory says about scripted runs, and whether runs agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from steerline.config.simulation import SimulationSpec
from steerline.simulation.result import Result
from steerline.simulation.runner import run


@dataclass(frozen=True)
class Oracle:
    """An exact value for the mean of a statistic over seeds."""

    name: str
    spec: SimulationSpec
    """What is run; its seed is replaced by 0, 1, 2 and so on."""
    statistic: Callable[[Result], float]
    """What is read off a run."""
    exact: float
    """Its mean by theory."""
    source: str
    """The theorem, or how the value was computed."""
    seeds: int = 30
    """Runs."""


@dataclass(frozen=True)
class Verdict:
    """What the runs said."""

    oracle: Oracle
    mean: float
    low: float
    high: float
    """The interval of the mean at the confidence asked for, by Student's t."""

    @property
    def agrees(self) -> bool:
        """Whether the exact value lies inside the interval; rounding of 1e-9 is allowed where all runs agree."""
        slack = 1e-9 * max(1.0, abs(self.oracle.exact))
        return self.low - slack <= self.oracle.exact <= self.high + slack


def consult(oracle: Oracle, confidence: float = 0.999) -> Verdict:
    """Run an oracle's simulation over its seeds."""
    from scipy import stats

    runs = (run(oracle.spec.model_copy(update={"seed": seed})) for seed in range(oracle.seeds))
    values = np.array([oracle.statistic(result) for result in runs], dtype=np.float64)
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * error
    return Verdict(oracle, mean, mean - half, mean + half)
