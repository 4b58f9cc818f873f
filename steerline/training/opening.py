"""How the process of a job opens its run, and closes one that never began."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from steerline.config.kinds import JobSpec
from steerline.config.load import Loaded
from steerline.config.render import identity_hash, resolved, run_name
from steerline.errors import SteerlineError
from steerline.tracking.provenance import collect
from steerline.tracking.references import RunRef, resolve_uri
from steerline.tracking.runs import close_unstarted, start_run
from steerline.training.ray_job import RayJob


@dataclass(frozen=True)
class Place:
    """Where a run that belongs to a sweep is shown in MLflow.

    Args:
        parent_run_id: the sweep's run.
        label: what the page calls this one; its name stays.
    """

    parent_run_id: str
    label: str


def open_run(loaded: Loaded[JobSpec], parents: Mapping[str, str], place: Place | None = None) -> RunRef:
    """Begin a job's run, or resume it: with its config, whose code runs, and the Ray job that carries it out.

    Args:
        loaded: the config.
        parents: the models that it starts from: role to reference.
        place: the sweep that it is a trial of; none for a run of its own.

    Raises:
        TrackingError: the server stayed away or refused.
    """
    spec = loaded.spec
    job, here = RayJob.of(os.environ), collect()
    tags = {} if job is None else job.tags()
    return start_run(
        spec.tracking,
        run_name=run_name(spec),
        kind=spec.kind,
        config=resolved(spec),
        config_hash=identity_hash(spec),
        config_provenance=loaded.provenance,
        parents=parents,
        parent_run_id=None if place is None else place.parent_run_id,
        ray_job_id=None if job is None else job.submission_id,
        tags=tags if place is None else {**tags, "mlflow.runName": place.label},
        provenance=here if job is None else job.provenance(here),
    )


def close_if_unstarted(spec: JobSpec, error: SteerlineError) -> None:
    """Say in MLflow why a run that was scheduled at its submission did not start; nothing for one that did."""
    job = RayJob.of(os.environ)
    if job is not None:
        close_unstarted(
            resolve_uri(spec.tracking), run_name(spec), job.submission_id, status="FAILED", reason=str(error)
        )
