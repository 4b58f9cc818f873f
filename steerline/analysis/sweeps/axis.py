"""Where the values of a sweep's axis stand in a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDE = 30.0
"""Ratio of the largest to the smallest number from which an axis is logarithmic."""


@dataclass(frozen=True)
class Placed:
    """Values on an axis: numbers where they are, anything else side by side with its labels.

    Args:
        positions: of each value, in order.
        ticks: labels of the positions 0, 1, 2 and so on; none for numbers.
        is_log: whether the numbers span so much that equal steps should be equal ratios.
    """

    positions: tuple[float, ...]
    ticks: tuple[str, ...]
    is_log: bool

    @classmethod
    def of(cls, values: Sequence[object]) -> Placed:
        """Place values."""
        numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) == len(values):
            is_log = bool(numbers) and min(numbers) > 0 and max(numbers) >= WIDE * min(numbers)
            return cls(tuple(numbers), (), is_log)
        ticks = tuple(dict.fromkeys(shown(value) for value in values))
        return cls(tuple(float(ticks.index(shown(value))) for value in values), ticks, is_log=False)


def shown(value: object) -> str:
    """A value for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
