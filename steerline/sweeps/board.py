"""Which trial comes next, and whether the sweep is at its end. Knows nothing of how a trial is carried out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from steerline.config.sweep import SweepSpec
from steerline.config.sweep_metrics import training_tokens
from steerline.config.sweep_points import BASELINE, Point, Trial, trials
from steerline.errors import ConfigError
from steerline.sweeps.ledger import Found, Ledger, Record
from steerline.sweeps.search import search_of


class Board:
    """Hands out trials and takes in what came out of them.

    The baseline comes first, then the points of the search as long as the budget lasts, then the controls of the best
    point, for which the budget keeps room. What the ledger knows is not handed out again.

    Args:
        sweep: the sweep.
        ledger: what earlier attempts left.
    """

    def __init__(self, sweep: SweepSpec, ledger: Ledger) -> None:
        self.sweep, self.ledger = sweep, ledger
        self.points: list[Point] = []
        """Points whose trials have been handed out, in order."""
        self.trials: dict[str, list[Trial]] = {}
        """Each point's trials, one for each seed."""
        self.closed = False
        """Whether no further trial is handed out."""
        self._search = search_of(sweep, ledger.proposed)
        self._queue: deque[Trial] = deque()
        self._going: set[str] = set()
        self._open: dict[str, Point] = {}
        self._searched, self._controlled = False, False
        if sweep.baseline is not None:
            self._add(BASELINE, trials(sweep, BASELINE))
        for values in ledger.proposed:
            self._add_point(Point(dict(values)))

    @property
    def is_done(self) -> bool:
        """Whether nothing is going and nothing will be handed out."""
        return not self._going and (self.closed or (self._controlled and not self._queue))

    def take(self, most: int = 1) -> list[Trial]:
        """The next trials, at most so many; none while the next ones depend on those that are going."""
        taken: list[Trial] = []
        while len(taken) < most and not self.closed:
            if not self._queue and not self._refill():
                break
            if not self._queue:
                continue
            trial = self._queue.popleft()
            # Two points may come to the same config, which is one run.
            if trial.name in self.ledger.records or trial.name in self._going:
                continue
            self._going.add(trial.name)
            taken.append(trial)
        self.ledger.sync()
        return taken

    def put(self, results: Sequence[tuple[Trial, Found | None]]) -> None:
        """Take in what came out of trials; none where one was stopped and will go on in another attempt."""
        ended = [Record(trial.name, trial.label, found) for trial, found in results if found is not None]
        self._going -= {trial.name for trial, _ in results}
        if ended:
            self.ledger.end(ended)
        self._learn()

    def found(self, point: Point) -> list[Found | None]:
        """What came out of a point, seed by seed; none where that trial has not ended."""
        records = (self.ledger.records.get(trial.name) for trial in self.trials[point.key])
        return [None if record is None else record.found for record in records]

    def values(self, point: Point) -> list[float] | None:
        """The sweep's metrics of a point, each the mean over seeds; none unless every seed has come to its end."""
        found = [result for result in self.found(point) if result is not None and result.state == "finished"]
        if len(found) < len(self.sweep.seeds):
            return None
        means = [float(np.mean([result.metrics[m.name] for result in found])) for m in self.sweep.metrics]
        return means if np.isfinite(means).all() else None

    def best(self) -> Point | None:
        """The point of the space with the best mean of the first metric; none where none has ended."""
        metric = self.sweep.metrics[0]
        scored = [(values[0] * metric.sign, p) for p in self.points if p.role == "point" and (values := self.values(p))]
        return max(scored, key=lambda pair: pair[0])[1] if scored else None

    def _refill(self) -> bool:
        """Queue another point, or the controls. Whether there was one."""
        point = None if self._searched or not self._affordable() else self._search.propose()
        if point is not None:
            self.ledger.propose(point.values)
            self._add_point(point)
            return True
        self._searched = True
        if self._going or self._controlled:
            return False
        self._controlled = True
        best = self.best()
        if best is None or not self.sweep.controls:
            return False
        for name in self.sweep.controls:
            control = Point({}, role="control", name=name)
            self._add(control, trials(self.sweep, control, under=best))
        return True

    def _affordable(self) -> bool:
        budget, seeds = self.sweep.budget, len(self.sweep.seeds)
        num_points = sum(point.role == "point" for point in self.points) + 1
        others = (self.sweep.baseline is not None) + len(self.sweep.controls)
        if budget.trials is not None and (num_points + others) * seeds > budget.trials:
            return False
        if budget.tokens is None:
            return True
        each = training_tokens(self.sweep.base) or 0
        spent = sum(record.found.tokens for record in self.ledger.records.values())
        promised = (len(self._queue) + len(self._going) + (1 + len(self.sweep.controls)) * seeds) * each
        return spent + promised <= budget.tokens

    def _add_point(self, point: Point) -> None:
        if point.key in self.trials:
            if point.key not in self._open:
                self._search.learn(point, self.values(point))
            return
        try:
            runs = trials(self.sweep, point)
        except ConfigError as error:
            # Each value is fine by itself, which was looked at before; together they are not.
            refused = Found("failed", cause=str(error))
            self.ledger.end([Record(f"refused {point.key}", point.label, refused)])
            self._search.learn(point, None)
            return
        self._add(point, runs)

    def _add(self, point: Point, runs: list[Trial]) -> None:
        self.points.append(point)
        self.trials[point.key] = runs
        self._open[point.key] = point
        self._queue.extend(run for run in runs if run.name not in self.ledger.records)
        self._learn()

    def _learn(self) -> None:
        """Tell the search of every point whose trials have all ended."""
        for key, point in list(self._open.items()):
            if all(result is not None for result in self.found(point)):
                del self._open[key]
                if point.role == "point":
                    self._search.learn(point, self.values(point))
