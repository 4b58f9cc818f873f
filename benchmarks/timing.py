"""Contestants run side by side: interleaved repetitions, and ratios taken within a repetition."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """One contestant's measure over another's: the median over repetitions, and the smallest and largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def interleave(contestants: Mapping[str, Callable[[], float]], *, repetitions: int) -> dict[str, list[float]]:
    """Measure every contestant once per repetition, starting each repetition with the next one.

    Slow drift of a shared machine then falls on all contestants alike, and none always runs first.
    """
    names = list(contestants)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(repetitions):
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            samples[name].append(contestants[name]())
    return samples


def ratio(samples: Mapping[str, list[float]], name: str, against: str) -> Ratio:
    """Per-repetition ratios of `name` over `against`."""
    ratios = [mine / other for mine, other in zip(samples[name], samples[against], strict=True)]
    return Ratio(median=statistics.median(ratios), low=min(ratios), high=max(ratios))
