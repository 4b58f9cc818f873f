"""Facts about agents: one number or word from a distribution, and the range that a number falls into."""

from __future__ import annotations

import math
from statistics import NormalDist

from steerline.config.simulation_distributions import (
    Bounds,
    DistributionSpec,
    IntegerDistribution,
    LogNormalDistribution,
    NormalDistribution,
    UniformDistribution,
    WeightedDistribution,
)

_STANDARD = NormalDist()
_STEP = 2.0**-53
"""Between two draws: as far from 0 and 1 as a draw comes whose normal number is finite."""


def quantile(spec: DistributionSpec, u: float) -> float | int | str:
    """The value below which a share u of the distribution lies, u in [0, 1): the inverse of its distribution function.

    So that one uniform draw makes one fact, whatever its distribution.
    """
    match spec:
        case UniformDistribution(low=low, high=high):
            return low + (high - low) * u
        case IntegerDistribution(low=least, high=most):
            return least + int((most - least + 1) * u)
        case NormalDistribution(mean=mean, std=std, low=lowest, high=highest):
            below = 0.0 if lowest is None else _STANDARD.cdf((lowest - mean) / std)
            upto = 1.0 if highest is None else _STANDARD.cdf((highest - mean) / std)
            value = mean + std * _normal(below + (upto - below) * u)
            return min(max(value, -math.inf if lowest is None else lowest), math.inf if highest is None else highest)
        case LogNormalDistribution(median=median, sigma=sigma):
            return median * math.exp(sigma * _normal(u))
        case WeightedDistribution(weights=weights):
            return _weighted(weights, u)


def range_of(value: float, bounds: Bounds) -> str:
    """The range that a number lies in, in words; a bound belongs to the range that it begins."""
    place = sum(value >= bound for bound in bounds)
    if place == 0:
        return f"below {bounds[0]:g}"
    if place == len(bounds):
        return f"{bounds[-1]:g} or more"
    return f"{bounds[place - 1]:g} to {bounds[place]:g}"


def _normal(u: float) -> float:
    return _STANDARD.inv_cdf(min(max(u, _STEP), 1 - _STEP))


def _weighted(weights: dict[str, float], u: float) -> str:
    left = u * sum(weights.values())
    likely = [value for value, weight in weights.items() if weight > 0]
    for value in likely:
        if left < weights[value]:
            return value
        left -= weights[value]
    # Rounding of the sum may leave a last draw just beyond it.
    return likely[-1]
