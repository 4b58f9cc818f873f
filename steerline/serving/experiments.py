"""Experiments: every combination of a grid with every seed as a simulation, and what came of them over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from steerline.config.load import changed
from steerline.config.simulation import SimulationSpec
from steerline.errors import ConfigError, Problem

if TYPE_CHECKING:
    from steerline.evaluation.statistics import Interval

EXPERIMENT = "experiment"
"""Operation that says which experiment a simulation belongs to."""
MOST_SIMULATIONS = 1024
MOST_AGENTS = 100_000
"""Agents of all simulations of an experiment together."""
_FEW = 20
"""Seeds below which an interval is Student's: a bootstrap of a few values is too narrow."""


@dataclass(frozen=True)
class Member:
    """A simulation of an experiment.

    Args:
        values: dotted path of the grid to the value that it has here.
        spec: what is played, with its seed.
    """

    values: Mapping[str, Any]
    spec: SimulationSpec


def members(spec: SimulationSpec, grid: Mapping[str, Sequence[Any]], seeds: Sequence[int]) -> list[Member]:
    """Every simulation of an experiment, its first seeds first. They are valid specs, and no more is known of them.

    Args:
        spec: what is played.
        grid: dotted paths and the values that each takes.
        seeds: none takes the spec's own.

    Raises:
        ConfigError: there are too many of them or of their agents, a seed comes twice, an axis is none, or a
            combination is no valid spec.
    """
    seeds = tuple(seeds) or (spec.seed,)
    count = prod([len(seeds), *map(len, grid.values())])
    if not 1 <= count <= MOST_SIMULATIONS:
        raise _misfit("grid", "an experiment has too many simulations, or none", count, f"1 to {MOST_SIMULATIONS}")
    if len(set(seeds)) != len(seeds):
        raise _misfit("seeds", "a seed is named twice", list(seeds), "each seed once")
    if "seed" in grid:
        raise _misfit("grid.seed", "`seed` is no axis of the grid", "seed", "the values in `seeds`")
    found, agents = [], 0
    for seed in seeds:
        for values in product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            found.append(Member(point, changed(spec, {**point, "seed": seed}, "the experiment")))
            # All of them are held in memory at once.
            agents += len(found[-1].spec.agents)
            if agents > MOST_AGENTS:
                raise _misfit("grid", "an experiment has too many agents", f"{agents}", f"at most {MOST_AGENTS}")
    return found


def over_seeds(values: Sequence[float]) -> tuple[Interval, bool]:
    """The mean of one number over independent runs [N >= 1] with its 95 % interval, and whether there is one."""
    from steerline.evaluation.statistics import Interval, bootstrap_interval, t_interval

    if len(values) == 1:
        return Interval(values[0], values[0], values[0]), False
    if len(values) < _FEW:
        return t_interval(values), True
    return bootstrap_interval(values), True


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[int, Interval, bool]]:
    """By name over the runs that have it: how many, the mean with its interval, and whether there is an interval."""
    found: dict[str, tuple[int, Interval, bool]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = np.array([row[name] for row in rows if name in row and isfinite(row[name])])
        if len(values):
            found[name] = (len(values), *over_seeds(values.tolist()))
    return found


def _misfit(path: str, what: str, got: object, expected: str) -> ConfigError:
    return ConfigError("the experiment cannot be made", problems=[Problem(what, path, got=str(got), expected=expected)])
