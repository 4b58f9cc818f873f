"""A sweep from its config to its report, and on again after it was interrupted."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from steerline.config.inference import LocalBackendSpec
from steerline.config.load import Loaded
from steerline.config.render import resolved_json, run_name
from steerline.config.simulate import SimulateSpec
from steerline.config.sweep import BaseSpec, SweepSpec
from steerline.config.sweep_points import Trial, num_trials
from steerline.errors import SteerlineError, SweepError
from steerline.home import storage_folder
from steerline.models.sources import describe
from steerline.sweeps.board import Board
from steerline.sweeps.driver import carry_out, stop_request
from steerline.sweeps.kinds import SharedTrials, TrialKind, kind_of
from steerline.sweeps.ledger import Found, Ledger
from steerline.sweeps.record import PATIENCE_S, TrialRecorder
from steerline.sweeps.report import write_report
from steerline.sweeps.selection import Selection, select
from steerline.tracking.recorder import Recorder
from steerline.tracking.references import RunRef, run_url
from steerline.training.job import Outcome
from steerline.training.opening import open_run

STOPPED_EXIT_CODE = 130
_FAILED_EXIT_CODE = SweepError.exit_code
# How long the sweep's own records are tried, at its end, while the server takes trials.
_DELIVERY_S = 20.0


def sweep_folder(sweep: SweepSpec) -> Path:
    """Where a sweep's files lie; each trial's lie beside it under its own name."""
    return storage_folder(sweep.cluster.storage_path) / run_name(sweep)


class Sweep:
    """Carries one sweep out.

    Args:
        loaded: the config.
        kind: how trials are carried out; none takes what the base config's kind needs.
        patience_s: how long to wait for a tracking server that does not answer; see `record`.
    """

    def __init__(
        self, loaded: Loaded[SweepSpec], kind: TrialKind | None = None, *, patience_s: float = PATIENCE_S
    ) -> None:
        self._loaded, self._spec = loaded, loaded.spec
        self._kind = kind_of(loaded.spec.base) if kind is None else kind
        self.name = run_name(loaded.spec)
        self.folder = sweep_folder(loaded.spec)
        self._board: Board | None = None
        self._stopping = False
        self._patience_s = patience_s
        self._missing: list[Trial] = []
        self._refused: Mapping[str, str] = {}

    def request_stop(self) -> None:
        """Ask every trial that is going to save and stop, and start no further one."""
        self._stopping = True
        if self._board is not None:
            self._board.closed = True
            # Trials look for it by themselves: one that is about to begin sees it too.
            stop_request(self.folder).touch()

    def run(self) -> int:
        """Run all trials that have not ended, choose among the points, and report. Returns the exit code.

        Raises:
            SteerlineError: whatever stood in the way; the run is closed as FAILED and the outcome written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with _alone(self.folder):
            run = open_run(self._loaded, _models(self._spec.base))
            self._say(f"recorded at {run_url(run)}")
            (self.folder / "config.resolved.json").write_text(resolved_json(self._spec))
            recorder = Recorder(run, self.folder / "spool")
            status = "FAILED"
            try:
                status = self._carry_out(run, recorder)
            except SteerlineError as error:
                self._failed(str(error), error.exit_code)
                raise
            except KeyboardInterrupt:
                status = "KILLED"
                raise
            except Exception as error:
                self._failed(repr(error), _FAILED_EXIT_CODE)
                raise
            finally:
                recorder.status(status)
                self._close(recorder)
        return STOPPED_EXIT_CODE if status == "KILLED" else 0

    def _close(self, recorder: Recorder) -> None:
        """Deliver what the sweep's own run has recorded, and say what MLflow lacks."""
        # A server that has just been waited for is not waited for again.
        delivered = recorder.close(0.0 if self._missing else _DELIVERY_S)
        trials = [f"{len(self._missing)} trials"] if self._missing else []
        again = f"`steerline resume {self.name}`, or the same command again, sends what is missing"
        if self._refused:
            self._say(
                f"refused by MLflow at {recorder.run.tracking_uri}: {len(self._refused)} trials "
                f"({next(iter(self._refused.values()))}). {self.folder} keeps them; once that is mended, {again}"
            )
        lacking = trials if delivered else [*trials, "what the sweep's own run recorded last"]
        if lacking:
            self._say(
                f"not yet in MLflow at {recorder.run.tracking_uri}: {' and '.join(lacking)}. "
                f"{self.folder} keeps it; {again}"
            )

    def _carry_out(self, run: RunRef, recorder: Recorder) -> str:
        # An earlier attempt's.
        stop_request(self.folder).unlink(missing_ok=True)
        board = self._board = Board(self._spec, Ledger(self.folder))
        if self._stopping:
            # It was asked before there was a board to close.
            self.request_stop()
        total = num_trials(self._spec)
        known = len(board.ledger.records)
        self._say(f"{total} trials" + (f", {known} of them known from before" if known else ""))
        light = isinstance(self._kind, SharedTrials)
        with TrialRecorder(run, self._spec, light=light, patience_s=self._patience_s) as children:

            def tell(trial: Trial, found: Found | None) -> None:
                self._say(_line(self._spec, trial, found, len(board.ledger.records), total))
                if found is not None:
                    children.record(trial, found)

            carry_out(board, self._kind, run, self.folder, tell)
            # MLflow takes the last trials meanwhile.
            report = None if self._stopping else self._report(board, recorder)
            self._missing = children.complete(board)
            self._refused = children.refused
        if report is None:
            Outcome(self.name, "stopped", len(board.ledger.records), total).save(self.folder)
            self._say("stopped; submit again to go on")
            return "KILLED"
        selection, files = report
        Outcome(
            self.name, "finished", len(board.ledger.records), total, metrics=selection.best_metrics(), files=files
        ).save(self.folder)
        self._say(selection.verdict)
        for role, path in files.items():
            self._say(f"{role}: {path}")
        return "FINISHED"

    def _report(self, board: Board, recorder: Recorder) -> tuple[Selection, dict[str, str]]:
        selection = select(board)
        return selection, write_report(board, selection, self.folder, recorder)

    def _failed(self, error: str, exit_code: int) -> None:
        Outcome(self.name, "failed", error=error, exit_code=exit_code).save(self.folder)

    @staticmethod
    def _say(text: str) -> None:
        sys.stdout.write(f"steerline: {text}\n")
        sys.stdout.flush()


def _models(base: BaseSpec) -> dict[str, str]:
    """The models that trials start from, by role."""
    if not isinstance(base, SimulateSpec):
        return {"base_model": describe(base.model.source)}
    backends = {alias: ref.backend for alias, ref in base.simulation.models.items()}
    return {
        f"model_{alias}": describe(backend.model.source)
        for alias, backend in backends.items()
        if isinstance(backend, LocalBackendSpec)
    }


def _line(sweep: SweepSpec, trial: Trial, found: Found | None, ended: int, total: int) -> str:
    if found is None:
        return f"trial {trial.label}: stopped, goes on in the next attempt"
    values = [f"{m.name} {found.metrics[m.name]:.5g}" for m in sweep.metrics if m.name in found.metrics]
    cause = "" if found.cause is None else f": {found.cause.splitlines()[0]}"
    return f"trial {ended}/{total} {trial.label}: " + ", ".join([found.state.replace("_", " ") + cause, *values])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder, so that the same sweep is not run twice at once. The kernel lets go of it when a process dies.

    Raises:
        SweepError: another process holds it.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SweepError(
                "this sweep is going already",
                where=str(folder),
                fix="wait for it, or stop it; the same command then goes on",
            ) from error
        yield
