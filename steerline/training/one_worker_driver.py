"""The process of a job that one worker carries out: it opens the run, has the worker work, and closes the run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from steerline.config.cluster import ClusterSpec
from steerline.config.evaluate import EvaluateSpec
from steerline.config.load import Loaded
from steerline.config.render import resolved_json, run_name
from steerline.config.residual_fit import ResidualFitSpec
from steerline.errors import SteerlineError
from steerline.home import storage_folder
from steerline.models.load import prepare
from steerline.models.sources import describe
from steerline.tracking.recorder import Recorder
from steerline.tracking.references import RunRef, run_url
from steerline.tracking.runs import finish
from steerline.training.job import Outcome
from steerline.training.opening import open_run

Say = Callable[[str], None]
S = TypeVar("S", EvaluateSpec, ResidualFitSpec)
Work = Callable[[S, Path, Say, Recorder], Outcome]
"""Carries a job out: its spec, its folder, who is told of progress, and what records it."""
Alone = Callable[[Callable[[], Outcome], ClusterSpec], Outcome]
"""Runs a function in one worker with the resources of a cluster spec."""

_FAILED_EXIT_CODE = 9


class OneWorkerDriver(Generic[S]):
    """Carries one job out.

    Args:
        loaded: the config.
        work: what the worker does.
        alone: where the worker runs.
    """

    def __init__(self, loaded: Loaded[S], work: Work[S], alone: Alone) -> None:
        self._loaded: Loaded[S] = loaded
        self._work: Work[S] = work
        self._alone = alone
        self.name = run_name(loaded.spec)
        self.folder = storage_folder(loaded.spec.cluster.storage_path) / self.name

    def run(self) -> int:
        """Do it, or say that it is done. Returns the exit code.

        Raises:
            SteerlineError: whatever stood in the way; the run is closed as FAILED and the outcome written.
        """
        earlier = Outcome.load(self.folder)
        if earlier is not None and earlier.state == "finished":
            _say(f"steerline: {self.name} is finished already: nothing to do")
            _say_result(earlier)
            return 0
        spec = self._loaded.spec
        _say(f"steerline: making the model ready: {describe(spec.model.source)}")
        prepare(spec.model)
        run = open_run(self._loaded, {"base_model": describe(spec.model.source)})
        _say(f"steerline: recorded at {run_url(run)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.resolved.json").write_text(resolved_json(spec))
        outcome = self._have_done(run)
        outcome.save(self.folder)
        _say_result(outcome)
        return 0

    def _have_done(self, run: RunRef) -> Outcome:
        spool, spec = self.folder / "spool", self._loaded.spec
        status = "FAILED"
        try:
            outcome = self._alone(partial(_in_worker, self._work, spec, self.folder, run, spool), spec.cluster)
            status = "FINISHED"
            return outcome
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
            finish(run, status, spool)

    def _failed(self, error: str, exit_code: int) -> None:
        Outcome(self.name, "failed", error=error, exit_code=exit_code).save(self.folder)


def _in_worker(work: Work[S], spec: S, folder: Path, run: RunRef, spool: Path) -> Outcome:
    import torch

    torch.set_num_threads(max(1, int(spec.cluster.cpus_per_worker)))
    with Recorder(run, spool) as recorder:
        return work(spec, folder, _say, recorder)


def _say_result(outcome: Outcome) -> None:
    for name, value in outcome.metrics.items():
        if name.endswith("/accuracy"):
            _say(f"steerline: {name} = {value:.4f}")
    for role, path in outcome.files.items():
        _say(f"steerline: {role}: {path}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
