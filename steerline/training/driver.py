"""The job's own process: it opens the run, has the workers train, and closes the run whatever happens."""

from __future__ import annotations

import sys
from dataclasses import replace

from steerline.config.finetune import FinetuneSpec
from steerline.config.load import Loaded
from steerline.config.render import resolved, resolved_json
from steerline.errors import SteerlineError, TrackingError
from steerline.models.load import prepare
from steerline.models.sources import describe
from steerline.tracking.recorder import Recorder
from steerline.tracking.references import RunRef, run_url
from steerline.tracking.registry import register
from steerline.tracking.runs import finish
from steerline.training.job import Job, Outcome, evaluation_config
from steerline.training.opening import Place, open_run
from steerline.training.ray_trainer import train

STOPPED_EXIT_CODE = 130
_FAILED_EXIT_CODE = 9


class Driver:
    """Carries one job out.

    Args:
        loaded: the config.
        place: the sweep that it is a trial of; none for a run of its own.
    """

    def __init__(self, loaded: Loaded[FinetuneSpec], place: Place | None = None) -> None:
        self._loaded = loaded
        self._place = place
        self._job = Job.of(loaded.spec)
        # An earlier attempt's. One that comes from now on holds, also while the run is still being opened.
        self._job.stop_request.unlink(missing_ok=True)

    def request_stop(self) -> None:
        """Ask the workers to save after the step they are at, and to end."""
        self._job.folder.mkdir(parents=True, exist_ok=True)
        self._job.stop_request.touch()

    def run(self) -> int:
        """Train, or go on, or say that it is done. Returns the exit code.

        Raises:
            SteerlineError: whatever stood in the way; the run is closed as FAILED and the outcome written.
        """
        kept = self._kept()
        if kept is not None and self._is_registered(kept):
            self._say(f"{self._job.name} is finished already, and so is its evaluation: nothing to do")
            self._say_result(kept)
            return 0
        self._say(f"making the model ready: {describe(self._job.spec.model.source)}")
        prepare(self._loaded.spec.model)
        run = open_run(self._loaded, {"base_model": describe(self._job.spec.model.source)}, self._place)
        self._say(f"recorded at {run_url(run)}")
        self._job = Job(self._job.spec, self._job.folder, run)
        self._job.folder.mkdir(parents=True, exist_ok=True)
        (self._job.folder / "config.resolved.json").write_text(resolved_json(self._job.spec))
        status = "FAILED"
        try:
            outcome = self._train() if kept is None else kept
            status = "FINISHED" if outcome.state == "finished" else "KILLED"
            self._register(run, outcome)
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
            finish(run, status, self._job.spool)
        if outcome.state == "stopped":
            outcome.save(self._job.folder)
            self._say(f"stopped after step {outcome.step}/{outcome.num_steps}; submit again to go on")
            return STOPPED_EXIT_CODE
        self._say_result(outcome)
        return 0

    def _kept(self) -> Outcome | None:
        """What an earlier attempt came to, where there is nothing to add but to register it."""
        earlier = Outcome.load(self._job.folder)
        if earlier is None or earlier.state != "finished":
            return None
        if earlier.evaluated_as == evaluation_config(self._loaded.spec):
            return earlier
        self._say(f"{self._job.name} is finished already; its evaluation changed and is carried out again")
        return None

    def _train(self) -> Outcome:
        workers = self._job.spec.cluster.num_workers
        self._say(f"starting {workers} worker{'s' * (workers > 1)}")
        return train(self._job)

    def _is_registered(self, outcome: Outcome) -> bool:
        wanted = self._job.spec.tracking.register_as
        return wanted is None or outcome.registered_as == resolved(wanted)

    def _register(self, run: RunRef, outcome: Outcome) -> None:
        wanted = self._job.spec.tracking.register_as
        if wanted is None or outcome.state != "finished":
            return
        with Recorder(run, self._job.spool) as recorder:
            if not recorder.flush():
                raise TrackingError(
                    "the model is exported but not registered: the tracking server is away",
                    where=run.tracking_uri,
                    fix="submit the same config again when it is back",
                )
        version = register(run, "export", wanted.name, wanted.alias)
        replace(outcome, registered_as=resolved(wanted)).save(self._job.folder)
        self._say(f"registered as {version.uri}")

    def _failed(self, error: str, exit_code: int) -> None:
        before = Outcome.load(self._job.folder)
        if before is None or before.state != "finished":
            Outcome(self._job.name, "failed", error=error, exit_code=exit_code).save(self._job.folder)

    def _say_result(self, outcome: Outcome) -> None:
        for name, value in outcome.metrics.items():
            if name.endswith(("/loss", "/accuracy")):
                self._say(f"{name} = {value:.4f}")
        for role, path in outcome.files.items():
            self._say(f"{role}: {path}")

    @staticmethod
    def _say(text: str) -> None:
        sys.stdout.write(f"steerline: {text}\n")
        sys.stdout.flush()
