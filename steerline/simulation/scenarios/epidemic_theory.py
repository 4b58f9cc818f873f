"""What theory says about epidemics: final sizes of large towns. And how waves are counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def final_size(r0: float, start: float = 0.0) -> float:
    """Share of a large town that is ever infected under complete mixing, those who were ill at the start included.

    The share never infected solves `s = (1 - start) * exp(-R0 * (1 - s))`, whatever the distribution of the days of
    illness (Kermack and McKendrick 1927). With `start` 0 it is the size given that the epidemic takes off.
    """
    return 1.0 - _fixed_point(lambda s: (1.0 - start) * math.exp(-r0 * (1.0 - s)))


def regular_final_size(degree: int, transmission: float, start: float = 0.0) -> float:
    """The same on a random regular graph, for illnesses of one length.

    A neighbour does not pass the illness on with `v = 1 - T + T * (1 - start) * v^(d - 1)`, and a person is never
    infected with `(1 - start) * v^d` (Newman, Phys. Rev. E 66, 016128, 2002).

    Args:
        degree: people whom everybody meets, `d`.
        transmission: chance `T` that an ill person infects a neighbour over the whole illness.
        start: share of the town that is ill at the start.
    """
    passed = _fixed_point(lambda v: 1.0 - transmission + transmission * (1.0 - start) * v ** (degree - 1))
    return 1.0 - (1.0 - start) * passed**degree


def waves(ill: Sequence[int], floor: int) -> int:
    """Waves of a curve: rises to a peak of at least `floor`, each parted from the next by a fall to less than half of
    its peak and a rise to more than twice the trough between them (our definition)."""
    count, rising, mark = 0, True, 0
    for number in ill:
        if rising:
            mark = max(mark, number)
            if mark >= floor and number < mark / 2:
                count, rising, mark = count + 1, False, number
        else:
            mark = min(mark, number)
            if number >= floor and number > 2 * mark:
                rising, mark = True, number
    return count + (rising and mark >= floor)


def _fixed_point(step: Callable[[float], float]) -> float:
    """The smallest fixed point in [0, 1] of a rising function, from below.

    Raises:
        ArithmeticError: it is not found, as happens exactly at a threshold.
    """
    value = 0.0
    for _ in range(100_000):
        following = step(value)
        if abs(following - value) < 1e-14:
            return following
        value = following
    raise ArithmeticError("no fixed point: the epidemic is at its threshold")
