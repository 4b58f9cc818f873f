"""Read what is on the tracking server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steerline.errors import TrackingError
from steerline.tracking.connection import connect, patiently
from steerline.tracking.naming import TAG_RUN_NAME
from steerline.tracking.references import RunRef

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PATIENCE_S = 15.0
_PAGE = 1000


@dataclass(frozen=True)
class RunInfo:
    """A run as the server knows it."""

    ref: RunRef
    name: str
    status: str
    end_ms: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """The last value of each metric."""


@dataclass(frozen=True)
class Point:
    """One recorded value of a metric."""

    step: int
    value: float
    time_ms: int


def find_run(uri: str, name: str) -> RunInfo:
    """The run of a Steerline name, whatever its experiment; the newest where several experiments hold one.

    Raises:
        TrackingError: there is none, or the server is away.
    """
    client = connect(uri)
    runs = patiently(
        lambda: search_runs(client, f"tags.`{TAG_RUN_NAME}` = {quoted(name)}"),
        what="look for a run",
        tracking_uri=uri,
        timeout_s=_PATIENCE_S,
    )
    if not runs:
        raise TrackingError(
            "No run has this name", where=uri, got=name, fix="see the names in the MLflow page, or `steerline status`"
        )
    return run_info(uri, max(runs, key=lambda run: run.info.start_time))


def get_run(uri: str, run_id: str) -> RunInfo:
    """The run of an id.

    Raises:
        TrackingError: there is none, or the server is away.
    """
    client = connect(uri)
    return patiently(
        lambda: run_info(uri, client.get_run(run_id)),
        what=f"read run {run_id}",
        tracking_uri=uri,
        timeout_s=_PATIENCE_S,
    )


def metric_history(uri: str, run_id: str, key: str) -> list[Point]:
    """All recorded values of a metric, by step and time.

    Raises:
        TrackingError: there is no such run, or the server is away.
    """
    client = connect(uri)
    history = patiently(
        lambda: client.get_metric_history(run_id, key),
        what=f"read the metric {key}",
        tracking_uri=uri,
        timeout_s=_PATIENCE_S,
    )
    points = [Point(m.step, m.value, m.timestamp) for m in history]
    return sorted(points, key=lambda point: (point.step, point.time_ms))


def download_artifact(uri: str, run_id: str, path: str, folder: Path) -> Path:
    """Fetch an artefact (a file or a folder) into a folder and return where it lies.

    Raises:
        TrackingError: there is no such run or artefact, or the server is away.
    """
    client = connect(uri)
    folder.mkdir(parents=True, exist_ok=True)
    return Path(
        patiently(
            lambda: client.download_artifacts(run_id, path, str(folder)),
            what=f"fetch {path}",
            tracking_uri=uri,
            timeout_s=_PATIENCE_S,
        )
    )


def search_runs(client: MlflowClient, condition: str, experiment_ids: list[str] | None = None) -> list[Run]:
    """All active runs that meet an MLflow filter, over all pages."""
    experiments = experiment_ids or [e.experiment_id for e in client.search_experiments(max_results=_PAGE)]
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(experiments, filter_string=condition, max_results=_PAGE, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def quoted(text: str) -> str:
    """A string literal of MLflow's filter language, which has no escapes.

    Raises:
        TrackingError: the text holds both kinds of quotes.
    """
    for quote in ("'", '"'):
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise TrackingError("MLflow cannot search for a text with both kinds of quotes", got=text)


def run_info(uri: str, run: Run) -> RunInfo:
    """The facts of a run of the MLflow client."""
    return RunInfo(
        ref=RunRef(uri, run.info.experiment_id, run.info.run_id, run.info.start_time),
        name=run.data.tags.get(TAG_RUN_NAME) or run.info.run_name or run.info.run_id,
        status=run.info.status,
        end_ms=run.info.end_time,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
