"""Which point is the best, and whether it beats the baseline and the placebos by more than chance.

Points are compared in pairs: the same seeds, and where the job judges items, the same items. A search tries many points
and the best of many is good by luck alone, so the p-values of all points tried are corrected together (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_rel

from steerline.config.evaluation import metric_name
from steerline.config.residual_fit import ResidualFitSpec
from steerline.config.simulate import SimulateSpec
from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import BASELINE, Point
from steerline.evaluation.statistics import Interval, holm, macro_interval, permutation_p_value, t_interval
from steerline.sweeps.board import Board
from steerline.sweeps.ledger import Found

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A point against another one, by the sweep's first metric.

    Args:
        against: the other one.
        difference: point minus other, with its interval.
        p_value: two-sided.
        p_holm: corrected over all points tried, or over all controls.
        basis: what was paired: the items, each with its mean over seeds (sign-flip permutation), or the runs of the
            same seed (paired t test).
    """

    against: str
    difference: Interval
    p_value: float
    p_holm: float
    basis: Literal["items", "seeds"]

    def beats(self, sign: int, alpha: float) -> bool:
        """Whether the point is better by more than chance; `sign` is 1 where more is better, else -1."""
        return sign * self.difference.mean > 0 and self.p_holm < alpha


@dataclass(frozen=True)
class Judged:
    """A point with what came out.

    Args:
        point: the point.
        values: each metric of the sweep, seed by seed; only of trials that came to their end.
        ended: how its trials ended, seed by seed; `open` for one that the budget left out.
        against_baseline: none where there is nothing to compare.
    """

    point: Point
    values: dict[str, tuple[float, ...]]
    ended: tuple[str, ...]
    against_baseline: Comparison | None = None

    def interval(self, metric: str, confidence: float) -> Interval | None:
        """Mean over seeds and Student's interval; one seed has none, and stands for itself."""
        values = self.values[metric]
        if not values:
            return None
        if len(values) == 1:
            return Interval(values[0], values[0], values[0])
        return t_interval(values, confidence=confidence)


@dataclass(frozen=True)
class Selection:
    """What a sweep found.

    Args:
        judged: every point, the baseline first and the controls last.
        best: the point with the best mean over seeds; none where none came to its end.
        controls: the best point against each placebo.
        front: the points that no other beats in every metric; empty for a single metric.
        wins: whether the best point beats the baseline and every placebo.
        verdict: the same, for people.
    """

    judged: tuple[Judged, ...]
    best: Judged | None
    controls: tuple[Comparison, ...]
    front: tuple[Point, ...]
    wins: bool
    verdict: str

    def best_metrics(self) -> dict[str, float]:
        """The best point's mean of each metric."""
        if self.best is None:
            return {}
        return {name: float(np.mean(values)) for name, values in self.best.values.items()}


def select(board: Board) -> Selection:
    """Choose among the points of a sweep that has ended."""
    sweep = board.sweep
    judged = [_judged(board, point) for point in board.points]
    baseline = next((one for one in judged if one.point.role == "baseline"), None)
    if baseline is not None:
        judged = _compared(board, judged)
    best_point = board.best()
    best = None if best_point is None else next(one for one in judged if one.point.key == best_point.key)
    controls = () if best is None else _against_controls(board, best)
    wins, verdict = _verdict(sweep, judged, best, controls)
    return Selection(tuple(judged), best, controls, _front(board), wins, verdict)


def _judged(board: Board, point: Point) -> Judged:
    found = board.found(point)
    finished = [one for one in found if one is not None and one.state == "finished"]
    values = {m.name: tuple(one.metrics[m.name] for one in finished) for m in board.sweep.metrics}
    return Judged(point, values, tuple("open" if one is None else one.state for one in found))


def _compared(board: Board, judged: Sequence[Judged]) -> list[Judged]:
    """The points with their comparisons to the baseline, corrected over all of them."""
    tested = {one.point.key: _pair(board, one.point, BASELINE) for one in judged if one.point.role == "point"}
    pairs = {key: pair for key, pair in tested.items() if pair is not None}
    corrected = dict(zip(pairs, holm([pair.p_value for pair in pairs.values()]), strict=True)) if pairs else {}
    return [
        Judged(one.point, one.values, one.ended, _with_holm(pairs[key], corrected[key]))
        if (key := one.point.key) in pairs
        else one
        for one in judged
    ]


def _against_controls(board: Board, best: Judged) -> tuple[Comparison, ...]:
    controls = [point for point in board.points if point.role == "control"]
    pairs = [pair for control in controls if (pair := _pair(board, best.point, control)) is not None]
    corrected = holm([pair.p_value for pair in pairs]) if pairs else ()
    return tuple(_with_holm(pair, p) for pair, p in zip(pairs, corrected, strict=True))


def _with_holm(pair: Comparison, p_holm: float) -> Comparison:
    return Comparison(pair.against, pair.difference, pair.p_value, p_holm, pair.basis)


def _pair(board: Board, point: Point, other: Point) -> Comparison | None:
    """One comparison, not corrected yet; none where a trial is missing, or where there is nothing to test by."""
    sweep = board.sweep
    mine, theirs = _finished(board, point), _finished(board, other)
    if mine is None or theirs is None:
        return None
    name = sweep.metrics[0].name
    strata = [(_over_seeds(theirs, task), _over_seeds(mine, task)) for task in _tasks(sweep)]
    if strata and all(len(a) == len(b) > 0 for a, b in strata):
        differences = [b - a for a, b in strata]
        weights = [len(strata) * len(a) for a, _ in strata]
        a, b = (np.concatenate([pair[i] / w for pair, w in zip(strata, weights, strict=True)]) for i in (0, 1))
        difference = _item_interval(differences, sweep.confidence)
        return Comparison(other.label, difference, permutation_p_value(a, b), 1.0, "items")
    values = [np.array([found.metrics[name] for found in side]) for side in (mine, theirs)]
    changes = values[0] - values[1]
    if len(changes) < 2:
        return None
    difference = t_interval(changes, confidence=sweep.confidence)
    # Where all seeds differ by the same amount, Student's statistic is 0 / 0 or infinite.
    p_value = float(changes[0] == 0) if np.ptp(changes) == 0 else float(ttest_rel(*(v.tolist() for v in values)).pvalue)
    return Comparison(other.label, difference, p_value, 1.0, "seeds")


def _finished(board: Board, point: Point) -> list[Found] | None:
    found = [one for one in board.found(point) if one is not None and one.state == "finished"]
    return found if len(found) == len(board.sweep.seeds) else None


def _tasks(sweep: SweepSpec) -> list[str]:
    """The tasks behind the first metric; none where it is no accuracy."""
    parts = sweep.metrics[0].name.split("/")
    if len(parts) != 3 or (parts[0], parts[2]) != ("eval", "accuracy"):
        return []
    if isinstance(sweep.base, ResidualFitSpec | SimulateSpec):
        return []
    tasks = sweep.base.evaluation.tasks
    return [task.name for task in tasks if parts[1] in (metric_name(task.name), task.group)]


def _over_seeds(found: Sequence[Found], task: str) -> Floats:
    """Each item's mean score over the seeds [N]."""
    scores = [np.asarray(one.scores.get(task, ()), dtype=np.float64) for one in found]
    return np.mean(scores, axis=0) if len({len(score) for score in scores}) == 1 else np.empty(0)


def _item_interval(differences: Sequence[Floats], confidence: float) -> Interval:
    if all(np.ptp(difference) == 0 for difference in differences):
        mean = float(np.mean([difference[0] for difference in differences]))
        return Interval(mean, mean, mean)
    return macro_interval(differences, confidence=confidence)


def _front(board: Board) -> tuple[Point, ...]:
    metrics = board.sweep.metrics
    if len(metrics) < 2:
        return ()
    signs = np.array([metric.sign for metric in metrics])
    valued = [(p, np.array(v) * signs) for p in board.points if p.role == "point" and (v := board.values(p))]
    return tuple(
        point
        for point, values in valued
        if not any((other >= values).all() and (other > values).any() for _, other in valued)
    )


def _verdict(  # noqa: PLR0911  one return for each thing that can be said
    sweep: SweepSpec, judged: Sequence[Judged], best: Judged | None, controls: Sequence[Comparison]
) -> tuple[bool, str]:
    metric, alpha = sweep.metrics[0], 1 - sweep.confidence
    if best is None:
        return False, "no point came to its end with every seed, so there is nothing to choose"
    mean = float(np.mean(best.values[metric.name]))
    named = f"{best.point.label} ({metric.name} {mean:.5g})"
    num_points = sum(one.point.role == "point" for one in judged)
    tried = f"{num_points} point{'s' * (num_points != 1)}"
    if sweep.baseline is None:
        return False, f"best of {tried}: {named}; without a baseline nothing says whether that is more than luck"
    test = best.against_baseline
    if test is None:
        return False, f"best of {tried}: {named}; not tested against the baseline: set more `seeds`"
    told = f"difference {test.difference.mean:+.4g}, p = {test.p_holm:.3g} corrected for {tried}"
    if not test.beats(metric.sign, alpha):
        return False, f"nothing beats the baseline: the best of {tried} is {named}; {told}"
    unbeaten = [control.against for control in controls if not control.beats(metric.sign, alpha)]
    missing = len(sweep.controls) - len(controls)
    if unbeaten:
        return False, f"{named} beats the baseline ({told}) but not the placebo {', '.join(unbeaten)}"
    if missing:
        return False, f"{named} beats the baseline ({told}); {missing} placebos were not run, so the cause is open"
    placebos = f" and {len(controls)} placebos" if controls else ""
    return True, f"{named} beats the baseline{placebos}: {told}"
