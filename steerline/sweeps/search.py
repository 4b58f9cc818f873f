"""How the points of a sweep are found: all of a grid, at random, or by Optuna."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Point, conditioned, grid
from steerline.config.sweep_search import MetricSpec, TpeSearch
from steerline.config.sweep_space import Axis, ListAxis

if TYPE_CHECKING:
    from optuna import Trial


class Search(Protocol):
    """Proposes points and may learn from what came out of them."""

    def propose(self) -> Point | None:
        """The next point; none when there are no more."""

    def learn(self, point: Point, values: Sequence[float] | None) -> None:
        """Hear what a point's metrics were, in the order of the sweep's; none where it did not come to its end."""


def search_of(sweep: SweepSpec, known: Sequence[Mapping[str, Any]] = ()) -> Search:
    """The search of a sweep, after the points that it proposed before a restart."""
    if sweep.search.kind == "tpe":
        return _Tpe(sweep.space, sweep.search, sweep.metrics, [Point(dict(values)) for values in known])
    if sweep.search.kind == "random":
        points = _draws(sweep.space, sweep.search.num_points, sweep.search.seed)
    else:
        points = grid(sweep.space)
    return _Listed(points, len(known))


class _Listed:
    """Points that do not depend on what came out of others: the same list in every attempt."""

    def __init__(self, points: Iterator[Point], num_known: int) -> None:
        self._points = points
        for _ in range(num_known):
            next(self._points, None)

    def propose(self) -> Point | None:
        return next(self._points, None)

    def learn(self, point: Point, values: Sequence[float] | None) -> None:
        """Nothing."""


def _draws(space: Mapping[str, Axis], number: int, seed: int) -> Iterator[Point]:
    rng = np.random.default_rng(seed)
    for _ in range(number):
        yield from grid(space, {path: _draw(axis, rng) for path, axis in space.items() if axis.kind != "grid"})


def _draw(axis: Axis, rng: np.random.Generator) -> Any:
    if isinstance(axis, ListAxis):
        return axis.values[int(rng.integers(len(axis.values)))]
    if axis.kind == "log_uniform":
        value = float(np.exp(rng.uniform(np.log(axis.low), np.log(axis.high + axis.integer))))
    else:
        value = float(rng.uniform(axis.low, axis.high + axis.integer))
    return min(int(value), int(axis.high)) if axis.integer else value


class _Tpe:
    """Optuna's estimator, asked and told. Choices go in as numbers, because Optuna takes plain values alone."""

    def __init__(
        self, space: Mapping[str, Axis], spec: TpeSearch, metrics: Sequence[MetricSpec], known: Sequence[Point]
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._left = space, spec.num_points - len(known)
        self._signs = [metric.sign for metric in metrics]
        self._study = optuna.create_study(
            directions=["maximize"] * len(metrics),
            # Another seed after each restart: the same one would propose the same random points again.
            sampler=optuna.samplers.TPESampler(n_startup_trials=spec.num_startup, seed=spec.seed + len(known)),
        )
        self._asked: dict[str, list[Trial]] = {}
        for point in known:
            self._study.enqueue_trial({path: self._code(path, value) for path, value in point.values.items()})
            self._ask()

    def propose(self) -> Point | None:
        if self._left <= 0:
            return None
        self._left -= 1
        return self._ask()

    def learn(self, point: Point, values: Sequence[float] | None) -> None:
        from optuna.trial import TrialState

        # The same choice may have been proposed more than once.
        for asked in self._asked.pop(point.key):
            if values is None:
                self._study.tell(asked, state=TrialState.FAIL)
            else:
                self._study.tell(asked, [sign * value for sign, value in zip(self._signs, values, strict=True)])

    def _ask(self) -> Point:
        trial = self._study.ask()
        given: dict[str, Any] = {}
        for path, axis in self._space.items():
            if path in conditioned(self._space, {**given, path: None}).values:
                given[path] = _suggest(trial, path, axis)
        point = Point(given)
        self._asked.setdefault(point.key, []).append(trial)
        return point

    def _code(self, path: str, value: Any) -> Any:
        axis = self._space[path]
        return axis.values.index(value) if isinstance(axis, ListAxis) else value


def _suggest(trial: Trial, path: str, axis: Axis) -> Any:
    if isinstance(axis, ListAxis):
        return axis.values[trial.suggest_categorical(path, list(range(len(axis.values))))]
    log = axis.kind == "log_uniform"
    if axis.integer:
        return trial.suggest_int(path, int(axis.low), int(axis.high), log=log)
    return trial.suggest_float(path, axis.low, axis.high, log=log)
