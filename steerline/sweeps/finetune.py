"""Fine-tuning runs as trials: each a whole run with checkpoints, tracked as one started by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from steerline.config.finetune import FinetuneSpec
from steerline.config.load import Loaded
from steerline.config.sweep import SweepSpec
from steerline.config.sweep_metrics import training_tokens
from steerline.config.sweep_points import Trial
from steerline.errors import SteerlineError, TrackingError, TrainingError
from steerline.evaluation.results import EvaluationResult
from steerline.sweeps.kinds import Along, Ended, Running, StopSign, WholeTrials
from steerline.sweeps.ledger import Found
from steerline.tracking.connection import TrackingDeniedError, TrackingRefusedError
from steerline.tracking.references import RunRef
from steerline.training.driver import STOPPED_EXIT_CODE, Driver
from steerline.training.history import read_history
from steerline.training.job import Job, Outcome
from steerline.training.opening import Place

_POLL_S = 0.2


class FinetuneTrials(WholeTrials):
    """Fine-tuning jobs as trials."""

    def start(self, trial: Trial, sweep: SweepSpec, run: RunRef | None, stop: StopSign) -> Running:
        """Begin the run, or go on from its last checkpoint."""
        place = None if run is None else Place(run.run_id, trial.label)
        return _Run(trial, followed(sweep), place, stop)


def followed(sweep: SweepSpec) -> tuple[str, ...]:
    """The metrics that are followed while a trial runs: the sweep's, and the one its scheduler compares."""
    names = [metric.name for metric in sweep.metrics]
    if sweep.scheduler.kind in ("asha", "median") and sweep.scheduler.metric is not None:
        names.append(sweep.scheduler.metric.name)
    return tuple(dict.fromkeys(names))


class _Run:
    """A run whose driver works in a thread. What it has measured is read from its folder, where its workers write."""

    def __init__(self, trial: Trial, names: Sequence[str], place: Place | None, stop: StopSign) -> None:
        assert isinstance(trial.spec, FinetuneSpec)
        self._job = Job.of(trial.spec)
        self._names, self._stop = names, stop
        self._told = max(self._curve(), default=-1)
        self._began = time.monotonic()
        self._driver = Driver(Loaded(self._job.spec, {}, ()), place)
        self._exit_code: int | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=trial.name, daemon=True)
        self._thread.start()

    def next(self) -> Along | Ended:
        """The next measurement, or the end."""
        while self._thread.is_alive():
            # The last step's is told with the end.
            for step, metrics in self._curve().items():
                if step > self._told:
                    self._told = step
                    return Along(step, metrics)
            if self._stop.is_up():
                self._driver.request_stop()
            self._thread.join(_POLL_S)
        return Ended(self._ended())

    def stop(self) -> None:
        """Save, end, and give the workers back."""
        self._driver.request_stop()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._exit_code = STOPPED_EXIT_CODE if self._stop.is_up() else self._driver.run()
        except BaseException as error:  # noqa: BLE001  handed over to the thread that asks
            self._error = error

    def _curve(self) -> dict[int, dict[str, float]]:
        """Step to the followed metrics, without the look at the untrained model."""
        curve: dict[int, dict[str, float]] = {}
        history = read_history(self._job.folder)
        for name in self._names:
            for step, value in history.get(name, {}).items():
                if step > 0:
                    curve.setdefault(step, {})[name] = value
        return dict(sorted(curve.items()))

    def _ended(self) -> Found | None:
        error = self._error
        if isinstance(error, SteerlineError) and not _may_pass(error):
            return Found("failed", cause=f"{type(error).__name__}: {error}", seconds=self._seconds())
        if error is not None:
            raise error
        if self._exit_code == STOPPED_EXIT_CODE:
            return None
        outcome = Outcome.load(self._job.folder)
        assert outcome is not None
        evaluation = outcome.files.get("evaluation")
        return Found(
            "finished",
            metrics=outcome.metrics,
            scores=_scores(Path(evaluation)) if evaluation else {},
            seconds=self._seconds(),
            tokens=training_tokens(self._job.spec, outcome.step) or 0,
            export=outcome.files.get("export"),
            curve={str(step): metrics for step, metrics in self._curve().items()},
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _may_pass(error: SteerlineError) -> bool:
    """Whether another attempt may not meet it: a worker died, MLflow was away, or it wanted other credentials."""
    if isinstance(error, TrackingRefusedError):
        return isinstance(error, TrackingDeniedError)
    return isinstance(error, TrackingError | TrainingError)


def _scores(evaluation: Path) -> dict[str, list[float]]:
    return {task.name: task.correct.tolist() for task in EvaluationResult.load(evaluation).tasks}
