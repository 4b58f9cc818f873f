"""The points of a sweep, and each trial's config, which is judged and named like one written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

from steerline.config.load import changed
from steerline.config.render import run_name
from steerline.config.sweep import BaseSpec, SweepSpec
from steerline.config.sweep_space import Axis, ListAxis

Role = Literal["baseline", "point", "control"]
_MANY = 256


@dataclass(frozen=True)
class Point:
    """One setting of the axes.

    Args:
        values: dotted path to value, in the order of the space; an axis that is not there has none.
        role: a point of the space, the baseline, or a control of a point.
        name: the control's name.
    """

    values: Mapping[str, Any]
    role: Role = "point"
    name: str = ""

    @property
    def key(self) -> str:
        """The same text for the same point, whatever its order."""
        return json.dumps([self.role, self.name, self.values], sort_keys=True)

    @property
    def label(self) -> str:
        """For people: `scale=2 fraction=0.01`; each axis by the shortest end of its path that tells it apart."""
        if self.role != "point":
            return self.name or self.role
        names = short_names(list(self.values))
        return " ".join(f"{names[path]}={_shown(value)}" for path, value in self.values.items())


BASELINE = Point({}, role="baseline")


@dataclass(frozen=True)
class Trial:
    """One run: a point with one seed.

    Args:
        point: the point.
        seed: the base's `seed` in this run, the same for every point.
        spec: its whole config.
        under: the point that a control lies on top of.
    """

    point: Point
    seed: int
    spec: BaseSpec
    under: Point | None = None

    @cached_property
    def name(self) -> str:
        """The name of its run: that of the same config written by hand."""
        return run_name(self.spec)

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.point.label} seed={self.seed}"


def trial(sweep: SweepSpec, point: Point, seed: int, *, under: Point | None = None) -> Trial:
    """The run of a point with a seed.

    Args:
        sweep: the sweep.
        point: the point; a control lies on top of `under`.
        seed: one of the sweep's seeds.
        under: the point that a control is a control of.

    Raises:
        ConfigError: the point is no valid config.
    """
    changes: dict[str, Any] = dict(under.values) if under is not None else {}
    if point.role == "baseline":
        changes |= sweep.baseline or {}
    elif point.role == "control":
        changes |= sweep.controls[point.name]
    else:
        changes |= point.values
    changes |= _seeded(sweep.base, seed)
    return Trial(point, seed, changed(sweep.base, changes, f"the point {point.label}"), under)


def _seeded(base: BaseSpec, seed: int) -> dict[str, Any]:
    """Where a kind of job has its seed; those with several take this one alone."""
    several = {"residual_scale": "fit.seeds", "simulate": "seeds"}
    return {several[base.kind]: [seed]} if base.kind in several else {"seed": seed}


def trials(sweep: SweepSpec, point: Point, *, under: Point | None = None) -> list[Trial]:
    """The runs of a point, one for each seed."""
    return [trial(sweep, point, seed, under=under) for seed in sweep.seeds]


def grid(space: Mapping[str, Axis], drawn: Mapping[str, Any] | None = None) -> Iterator[Point]:
    """Every combination of the grid axes' values, the last axis fastest.

    Args:
        space: the axes.
        drawn: values of the other axes, which all points share.
    """
    lists = {path: axis.values for path, axis in space.items() if isinstance(axis, ListAxis) and axis.kind == "grid"}
    seen: set[str] = set()
    for values in product(*lists.values()):
        given = {**(drawn or {}), **dict(zip(lists, values, strict=True))}
        point = conditioned(space, given)
        # Axes that are not there would repeat a point.
        if point.key not in seen:
            seen.add(point.key)
            yield point


def conditioned(space: Mapping[str, Axis], given: Mapping[str, Any]) -> Point:
    """A point of the axes that are there under their conditions."""
    kept: dict[str, Any] = {}
    for path, axis in space.items():
        if path in given and all(other in kept and kept[other] in values for other, values in axis.when.items()):
            kept[path] = given[path]
    return Point(kept)


def samples(sweep: SweepSpec) -> Iterator[Point]:
    """Points that show whether the space is one: all of a small grid, else each value and each end of a range once."""
    ends = {path: _extremes(axis) for path, axis in sweep.space.items()}
    size = 1
    for values in ends.values():
        size *= len(values)
    if size <= _MANY:
        drawn = (dict(zip(ends, values, strict=True)) for values in product(*ends.values()))
    else:
        first = {path: values[0] for path, values in ends.items()}
        drawn = ({**first, path: value} for path, values in ends.items() for value in values)
    seen: set[str] = set()
    for values_of in drawn:
        point = conditioned(sweep.space, values_of)
        if point.key not in seen:
            seen.add(point.key)
            yield point


def num_points(sweep: SweepSpec) -> int:
    """Points that the search proposes, the budget apart."""
    if sweep.search.kind == "tpe":
        return sweep.search.num_points
    crossed = sum(1 for _ in grid(sweep.space, {path: _extremes(axis)[0] for path, axis in sweep.space.items()}))
    return crossed * (sweep.search.num_points if sweep.search.kind == "random" else 1)


def num_trials(sweep: SweepSpec) -> int:
    """Trials in all, the budget apart."""
    points = num_points(sweep) + (sweep.baseline is not None) + len(sweep.controls)
    return points * len(sweep.seeds)


def short_names(paths: list[str]) -> dict[str, str]:
    """Each dotted path by its last parts, as few as tell it from the others."""
    names = {}
    for path in paths:
        parts = path.split(".")
        others = [other for other in paths if other != path]
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[-length:])
            if not any(f".{other}".endswith(f".{name}") for other in others):
                break
        names[path] = name
    return names


def _extremes(axis: Axis) -> tuple[Any, ...]:
    if isinstance(axis, ListAxis):
        return axis.values
    return (int(axis.low), int(axis.high)) if axis.integer else (axis.low, axis.high)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
