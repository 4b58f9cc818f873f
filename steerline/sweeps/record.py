"""What the sweep's own process tells MLflow about its trials."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Trial
from steerline.errors import TrackingError
from steerline.sweeps.board import Board
from steerline.sweeps.ledger import Found
from steerline.tracking.children import TAG_STOPPED_EARLY, Children
from steerline.tracking.connection import TrackingDeniedError, TrackingRefusedError
from steerline.tracking.naming import TAG_REASON
from steerline.tracking.references import RunRef

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long a request is tried again, and the end of a sweep waits, for a tracking server that does not answer."""

# While the server works on one request, the next is made ready.
_AT_ONCE = 4

_STATUS = {"finished": "FINISHED", "stopped_early": "KILLED", "failed": "FAILED"}


class TrialRecorder:
    """Records trials as they end, in threads of its own; the tracking server may be away meanwhile.

    Args:
        run: the sweep's run.
        sweep: the sweep.
        light: trials keep no runs of their own; otherwise what they could not say themselves is added.
        patience_s: how long to wait for a server that does not answer; a request under way has a limit of its own.
    """

    def __init__(self, run: RunRef, sweep: SweepSpec, *, light: bool, patience_s: float = PATIENCE_S) -> None:
        self._sweep, self._light, self._patience_s = sweep, light, patience_s
        self._children = Children(run, timeout_s=patience_s)
        self._answered = time.monotonic()
        self._recorded: set[str] = set()
        self.refused: dict[str, str] = {}
        """Trials that the server will not take, by name, and why: in its words."""
        self._denied: set[str] = set()
        self._refusing = threading.Lock()
        self._threads = ThreadPoolExecutor(_AT_ONCE, "trials")

    def record(self, trial: Trial, found: Found) -> None:
        """Record a trial that has ended."""
        if self._light:
            self._threads.submit(self._try, trial, found)

    def complete(self, board: Board) -> list[Trial]:
        """Record whatever the server does not have yet, and end the runs that were left open.

        Gives up once the server has not answered for a while. What it refuses it is not asked again, but for trials
        that it wanted other credentials for: it may have them by now.

        Returns:
            the trials that it still lacks because it was away; see also `refused`.
        """
        self._threads.shutdown(cancel_futures=True)
        while self._denied:
            del self.refused[self._denied.pop()]
        records = board.ledger.records
        ended = [trial for trials in board.trials.values() for trial in trials if trial.name in records]
        missing = self._unanswered(ended)
        if missing and self._finds_runs(missing):
            with ThreadPoolExecutor(_AT_ONCE, "trials") as threads:
                # Reading what came of each tells of faults.
                for _ in threads.map(self._try_yet, missing, [records[trial.name].found for trial in missing]):
                    pass
        return self._unanswered(missing)

    def _unanswered(self, trials: Sequence[Trial]) -> list[Trial]:
        return [trial for trial in trials if trial.name not in self._recorded and trial.name not in self.refused]

    def _finds_runs(self, missing: Sequence[Trial]) -> bool:
        """Whether the server says which runs there are."""
        try:
            self._children.refresh()
        except TrackingRefusedError as error:
            for trial in missing:
                self._note_refusal(trial, error)
            return False
        except TrackingError as error:
            logger.warning("trials are not recorded yet: %s", error.what)
            return False
        self._answered = time.monotonic()
        return True

    def _try_yet(self, trial: Trial, found: Found) -> None:
        if time.monotonic() - self._answered < self._patience_s:
            self._try(trial, found)

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
        except TrackingRefusedError as error:
            self._note_refusal(trial, error)
            return
        except TrackingError as error:
            logger.warning("%s is not recorded yet: %s", trial.label, error.what)
            return
        self._recorded.add(trial.name)
        self._answered = time.monotonic()

    def _note_refusal(self, trial: Trial, error: TrackingRefusedError) -> None:
        self._answered = time.monotonic()
        reason = str(error.got)
        with self._refusing:
            if isinstance(error, TrackingDeniedError):
                self._denied.add(trial.name)
            # The same for every trial, as a rule, which is said once.
            if reason not in self.refused.values():
                logger.warning("MLflow refuses trials: %s", reason)
            self.refused[trial.name] = reason

    def __enter__(self) -> TrialRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A sweep that is broken off waits for no server: what is left here is told when it is finished.
        self._threads.shutdown(cancel_futures=True)
