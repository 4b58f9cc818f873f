"""Begin and end a run. The run's name is its identity: beginning it again resumes it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from steerline.config.tracking import TrackingSpec
from steerline.errors import TrackingError
from steerline.tracking import naming
from steerline.tracking.connection import connect, patiently
from steerline.tracking.mlflow_backend import MlflowBackend
from steerline.tracking.provenance import Provenance, collect
from steerline.tracking.queries import quoted, search_runs
from steerline.tracking.recorder import Recorder
from steerline.tracking.redact import Redactor
from steerline.tracking.references import RunRef, resolve_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")
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
    uri = resolve_uri(spec)
    client = connect(uri)
    redactor = Redactor.from_environment()
    seen = provenance or collect(redactor=redactor)

    def ask(what: str, call: Callable[[], T]) -> T:
        return patiently(call, what=what, tracking_uri=uri, timeout_s=timeout_s)

    experiment_id = ask("open the experiment", lambda: _experiment(client, spec.experiment))
    run, is_new = ask("begin the run", lambda: _find_or_create(client, experiment_id, run_name, seen.user))
    ref = RunRef(uri, experiment_id, run.info.run_id, run.info.start_time)
    attempt = 1 if is_new else int(run.data.tags.get(naming.TAG_ATTEMPT, "0")) + 1
    own_tags = {
        naming.TAG_RUN_NAME: run_name,
        naming.TAG_RUN_KIND: kind,
        naming.TAG_ATTEMPT: str(attempt),
        naming.TAG_CONFIG_HASH: config_hash,
        naming.TAG_PARENT_RUN: parent_run_id,
        "steerline.ray_job_id": ray_job_id,
        f"steerline.ray_job_id.{attempt}": ray_job_id,
    }
    all_tags = {
        **_provenance_tags(seen),
        **{naming.field_name(k): redactor.field(k, v) for k, v in {**spec.tags, **(tags or {})}.items()},
        **naming.lineage_tags(parents or {}),
        **{k: v for k, v in own_tags.items() if v is not None},
    }
    backend = MlflowBackend(ref)
    fields = naming.flatten(params if params is not None else config or {})
    new_params = {k: redactor.field(k, v) for k, v in fields.items() if k not in run.data.params}

    def describe() -> None:
        if not is_new:
            backend.set_status("RUNNING")
        _in_chunks(backend.set_tags, all_tags)
        _in_chunks(backend.log_params, new_params)
        for name, text in _files(config, config_provenance, seen, redactor).items():
            client.log_text(ref.run_id, text, name if attempt == 1 else f"attempts/{attempt}/{name}")

    ask("describe the run", describe)
    return ref


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


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            # Another run of the same moment was faster.
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            "The experiment was deleted",
            where="tracking.experiment",
            got=name,
            fix=f"mlflow experiments restore --experiment-id {found.experiment_id if found else '?'}, or another name",
        )
    return str(found.experiment_id)


def _find_or_create(client: MlflowClient, experiment_id: str, run_name: str, user: str) -> tuple[Run, bool]:
    condition = f"tags.`{naming.TAG_RUN_NAME}` = {quoted(run_name)}"
    found = search_runs(client, condition, [experiment_id])
    if found:
        return min(found, key=_age), False
    tags = {naming.TAG_RUN_NAME: run_name, "mlflow.user": user}
    created = client.create_run(experiment_id, tags=tags, run_name=run_name)
    # MLflow has no unique names. Whoever began at the same moment sees the same runs and keeps the same one.
    oldest = min([*search_runs(client, condition, [experiment_id]), created], key=_age)
    if oldest.info.run_id != created.info.run_id:
        client.delete_run(created.info.run_id)
        return oldest, False
    return created, True


def _age(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id


def _provenance_tags(seen: Provenance) -> dict[str, str]:
    tags = {
        "mlflow.user": seen.user,
        "steerline.host": seen.host,
        "steerline.python": seen.python,
        "steerline.packages_digest": seen.packages_digest,
    }
    if seen.git is not None:
        tags["mlflow.source.git.commit"] = seen.git.commit
        tags["mlflow.source.git.branch"] = seen.git.branch
        tags["mlflow.source.git.dirty"] = str(seen.git.is_dirty).lower()
    return tags


def _files(
    config: Mapping[str, object] | None,
    config_provenance: Mapping[str, str] | None,
    seen: Provenance,
    redactor: Redactor,
) -> dict[str, str]:
    files = {"packages.txt": seen.packages}
    if config is not None:
        files["config.resolved.json"] = json.dumps(redactor.tree(config), indent=2)
    if config_provenance is not None:
        files["provenance.json"] = json.dumps(dict(config_provenance), indent=2)
    if seen.git is not None and seen.git.is_dirty:
        files["git.diff"] = seen.git.diff
    return files


def _in_chunks(write: Callable[[Mapping[str, str]], None], values: Mapping[str, str], size: int = 100) -> None:
    items = list(values.items())
    for start in range(0, len(items), size):
        write(dict(items[start : start + size]))
