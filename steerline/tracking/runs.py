"""Schedule, begin and end a run. The run's name is its identity: beginning it again resumes it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from steerline.config.tracking import TrackingSpec
from steerline.errors import TrackingError
from steerline.tracking import naming
from steerline.tracking.connection import connect, patiently
from steerline.tracking.experiment import Experiment
from steerline.tracking.mlflow_backend import MAX_TAG_CHARS
from steerline.tracking.provenance import Provenance
from steerline.tracking.queries import quoted, search_runs
from steerline.tracking.recorder import Recorder
from steerline.tracking.redact import Redactor
from steerline.tracking.references import RunRef

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)


def start_run(
    spec: TrackingSpec,
    *,
    run_name: str,
    kind: str,
    config: Mapping[str, object] | None = None,
    config_hash: str | None = None,
    config_provenance: Mapping[str, str] | None = None,
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None = None,
    parents: Mapping[str, str] | None = None,
    parent_run_id: str | None = None,
    ray_job_id: str | None = None,
    provenance: Provenance | None = None,
    timeout_s: float = 60.0,
) -> RunRef:
    """Begin a run, or resume the one of this name in the experiment.

    A resumed run is RUNNING again and counts one more attempt. Its parameters stay as they were, because MLflow never
    changes one; the config of each attempt is an artefact (`attempts/2/config.resolved.json`), and that of the first
    lies at the top.

    Args:
        spec: server, experiment and further tags.
        run_name: the name, such as `infosteer-1f3a9c0d2b`.
        kind: what sort of run it is: `finetune`, `sweep`, `evaluate`, ...
        config: the resolved config; its leaves become parameters unless `params` is given.
        config_hash: hash of the config's identity.
        config_provenance: where each leaf of the config was set.
        params: parameters instead of the config's leaves.
        tags: further tags.
        parents: role to reference of what the run is derived from (see `naming.lineage_tags`).
        parent_run_id: the run under which MLflow shows this one, such as a sweep.
        ray_job_id: the Ray job that carries the run out.
        provenance: git, packages, user and host; the default looks around now.
        timeout_s: how long to wait for a server that is away.

    Raises:
        TrackingError: the server stayed away or refused.
    """
    experiment = Experiment.open(spec, provenance, timeout_s)
    run, is_new = experiment.ask("begin the run", lambda: experiment.find_or_create(run_name))
    ref = experiment.ref(run)
    attempt = _starts(run) + 1
    own_tags = {
        naming.TAG_ATTEMPT: str(attempt),
        naming.TAG_PARENT_RUN: parent_run_id,
        naming.TAG_RAY_JOB: ray_job_id,
        f"{naming.TAG_RAY_JOB}.{attempt}": ray_job_id,
        **naming.lineage_tags(parents or {}),
        **_identity_tags(run_name, kind, config_hash),
    }

    def describe() -> None:
        if not is_new:
            experiment.client.update_run(ref.run_id, status="RUNNING")
        experiment.forget(ref, naming.TAG_REASON)
        experiment.tags(ref, tags or {}, own_tags)
        experiment.params(ref, run, params if params is not None else config or {})
        experiment.files(ref, attempt, config, config_provenance)

    experiment.ask("describe the run", describe)
    return ref


def schedule_run(
    spec: TrackingSpec,
    *,
    run_name: str,
    kind: str,
    submission_id: str,
    config: Mapping[str, object] | None = None,
    config_hash: str | None = None,
    config_provenance: Mapping[str, str] | None = None,
    provenance: Provenance | None = None,
    timeout_s: float = 10.0,
) -> RunRef | None:
    """Show a run as SCHEDULED from its submission on. `start_run` finds it by its name and turns it RUNNING.

    One that is going or has finished is left as it is; one that failed or was stopped waits again.

    Args:
        spec, run_name, kind, config, config_hash, config_provenance, provenance, timeout_s: as for `start_run`.
        submission_id: the Ray job that will start it.

    Returns:
        The run, or none where it was left as it is.

    Raises:
        TrackingError: the server stayed away or refused.
    """
    experiment = Experiment.open(spec, provenance, timeout_s)

    def write() -> RunRef | None:
        run, _ = experiment.find_or_create(run_name)
        # A run is RUNNING from its creation on; one that has started counts it too.
        if run.info.status == "FINISHED" or (run.info.status == "RUNNING" and _starts(run)):
            return None
        ref = experiment.ref(run)
        experiment.client.update_run(ref.run_id, status="SCHEDULED")
        experiment.forget(ref, naming.TAG_REASON)
        own_tags = {**_identity_tags(run_name, kind, config_hash), naming.TAG_RAY_JOB: submission_id}
        experiment.tags(ref, {}, own_tags)
        experiment.params(ref, run, config or {})
        experiment.files(ref, _starts(run) + 1, config, config_provenance)
        return ref

    return experiment.ask("schedule the run", write)


def close_unstarted(
    tracking_uri: str, run_name: str, submission_id: str, *, status: str, reason: str, timeout_s: float = 5.0
) -> bool:
    """End a run that a submission scheduled and that never started. Never raises because the server is away.

    Args:
        tracking_uri: the server.
        run_name: the run.
        submission_id: a run that another submission scheduled meanwhile is left alone.
        status: FAILED or KILLED.
        reason: why, for people; becomes the tag `steerline.reason`.
        timeout_s: how long to wait for a server that is away.

    Returns:
        Whether there was such a run and it is ended.
    """
    client = connect(tracking_uri)
    text = Redactor.from_environment().text(reason)[:MAX_TAG_CHARS]

    def close() -> bool:
        found = search_runs(client, f"tags.`{naming.TAG_RUN_NAME}` = {quoted(run_name)}")
        waiting = [
            run
            for run in found
            if run.info.status == "SCHEDULED" and run.data.tags.get(naming.TAG_RAY_JOB) == submission_id
        ]
        for run in waiting:
            client.set_tag(run.info.run_id, naming.TAG_REASON, text)
            client.set_terminated(run.info.run_id, status=status)
        return bool(waiting)

    try:
        return patiently(close, what="close the run", tracking_uri=tracking_uri, timeout_s=timeout_s)
    except TrackingError as error:
        logger.warning("%s is still shown as scheduled: %s", run_name, error)
        return False


def finish(run: RunRef, status: str, spool_folder: Path, *, timeout_s: float = 30.0) -> bool:
    """End a run, after sending whatever its spool still holds. Never raises because the server is away.

    Args:
        run: the run.
        status: FINISHED, FAILED or KILLED.
        spool_folder: the folder given to the run's `Recorder`.
        timeout_s: how long to wait for a server that is away.

    Returns:
        Whether the server has everything. Otherwise it waits in the spool, the status last.
    """
    recorder = Recorder(run, spool_folder)
    recorder.status(status)
    return recorder.close(timeout_s)


def _identity_tags(run_name: str, kind: str, config_hash: str | None) -> dict[str, str]:
    tags = {naming.TAG_RUN_NAME: run_name, naming.TAG_RUN_KIND: kind}
    return tags if config_hash is None else {**tags, naming.TAG_CONFIG_HASH: config_hash}


def _starts(run: Run) -> int:
    """How often the run has started."""
    return int(run.data.tags.get(naming.TAG_ATTEMPT, "0"))
