"""What the sweep's own process tells MLflow about its trials."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Trial
from steerline.errors import TrackingError
from steerline.sweeps.board import Board
from steerline.sweeps.ledger import Found
from steerline.tracking.children import TAG_STOPPED_EARLY, Children
from steerline.tracking.naming import TAG_REASON
from steerline.tracking.references import RunRef

logger = logging.getLogger(__name__)

# While the server works on one request, the next is made ready.
_AT_ONCE = 4

_STATUS = {"finished": "FINISHED", "stopped_early": "KILLED", "failed": "FAILED"}


class TrialRecorder:
    """Records trials as they end, in threads of its own; the tracking server may be away meanwhile.

    Args:
        run: the sweep's run.
        sweep: the sweep.
        light: trials keep no runs of their own; otherwise what they could not say themselves is added.
    """

    def __init__(self, run: RunRef, sweep: SweepSpec, *, light: bool) -> None:
        self._sweep, self._light = sweep, light
        self._children = Children(run)
        self._recorded: set[str] = set()
        self._threads = ThreadPoolExecutor(_AT_ONCE, "trials")

    def record(self, trial: Trial, found: Found) -> None:
        """Record a trial that has ended."""
        if self._light:
            self._threads.submit(self._try, trial, found)

    def complete(self, board: Board) -> None:
        """Record whatever the server does not have yet, and end the runs that were left open."""
        self._threads.shutdown(cancel_futures=True)
        self._children.refresh()
        records = board.ledger.records
        ended = [trial for trials in board.trials.values() for trial in trials if trial.name in records]
        with ThreadPoolExecutor(_AT_ONCE, "trials") as threads:
            missing = [trial for trial in ended if trial.name not in self._recorded]
            # Reading what came of each tells of faults.
            for _ in threads.map(self._try, missing, [records[trial.name].found for trial in missing]):
                pass

    def _try(self, trial: Trial, found: Found) -> None:
        tags: dict[str, str] = {"steerline.trial": trial.point.role}
        if found.state == "stopped_early":
            tags[TAG_STOPPED_EARLY] = "true"
        if found.cause is not None:
            tags[TAG_REASON] = found.cause[:4000]
        try:
            if self._light or self._children.run_id(trial.name) is None:
                self._children.record(
                    trial.name,
                    trial.label,
                    kind=trial.spec.kind,
                    params={**trial.point.values, "seed": trial.seed},
                    metrics=found.metrics,
                    tags=tags,
                    status=_STATUS[found.state],
                )
            else:
                self._children.mark(trial.name, tags, _STATUS[found.state])
        except TrackingError as error:
            logger.warning("%s is not recorded yet: %s", trial.label, error.what)
            return
        self._recorded.add(trial.name)

    def __enter__(self) -> TrialRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A sweep that is stopped waits for no server: what is left here is told when it is finished.
        self._threads.shutdown(cancel_futures=True)
