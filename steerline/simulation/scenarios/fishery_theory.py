"""What becomes of a lake whose fishers catch at random: the exact law of its stock, month by month."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Fate:
    """Expectations over all random catches."""

    survival: float
    """Chance that the lake is alive after the last month."""
    months: float
    """Months in which it can be fished."""
    gain: float
    """Tons that a villager catches altogether."""


def regrown(left: int, growth: float, capacity: int) -> int:
    """Tons in the next month."""
    return min(capacity, int(left * growth))


def needed(stock: int, growth: float) -> int:
    """Least tons that must be left for the stock to be again what it is."""
    return math.ceil(stock / growth)


def fate_of_random_fishers(
    villagers: int, greed: float, *, months: int, capacity: int, growth: float, lowest: int
) -> Fate:
    """The fate of a full lake where each wants anything up to `greed` times an equal part of the stock.

    The stock is a Markov chain on 0..capacity. What is wanted together is the sum of uniform numbers, by convolution;
    what is caught is no more than there is, whoever is served first.
    """
    law = np.zeros(capacity + 1)
    law[capacity] = 1.0
    alive = caught = 0.0
    for _ in range(months):
        alive += float(law.sum())
        later = np.zeros_like(law)
        for stock in np.flatnonzero(law):
            for tons, chance in enumerate(_catch(int(stock), villagers, greed)):
                mass = law[stock] * chance
                caught += mass * tons
                later[regrown(int(stock) - tons, growth, capacity)] += mass
        later[:lowest] = 0.0
        law = later
    return Fate(float(law.sum()), alive, float(caught) / villagers)


def most_wanted(stock: int, villagers: int, greed: float) -> int:
    """The most that a random fisher wants."""
    return min(stock, int(greed * stock / villagers))


def _catch(stock: int, villagers: int, greed: float) -> npt.NDArray[np.float64]:
    """Chances of what is caught together [stock + 1]."""
    top = most_wanted(stock, villagers, greed)
    total = np.ones(1)
    for _ in range(villagers):
        total = np.convolve(total, np.full(top + 1, 1 / (top + 1)))
    caught = np.zeros(stock + 1)
    within = min(len(total), stock + 1)
    caught[:within] = total[:within]
    caught[stock] += total[stock + 1 :].sum()
    return caught
