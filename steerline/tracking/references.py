"""The address of one run: all that another process needs to record to it or to read it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from steerline.config.tracking import TrackingSpec
from steerline.errors import TrackingError

LOCAL_SERVER = "http://127.0.0.1:5000"


@dataclass(frozen=True)
class RunRef:
    """Names a run on a tracking server. Small, frozen and picklable, so that it travels to workers as it is."""

    tracking_uri: str
    experiment_id: str
    run_id: str
    start_ms: int = 0
    """When the run first began, in milliseconds since 1970: the origin of steps that are seconds."""


def resolve_uri(spec: TrackingSpec) -> str:
    """The server's address: the spec's, else `MLFLOW_TRACKING_URI`, else the local stack's.

    Raises:
        TrackingError: the address carries a user name or a password. They would end up in logs and in the spool.
    """
    uri = (spec.uri or os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_SERVER).rstrip("/")
    parts = urlsplit(uri)
    if parts.scheme in {"http", "https"} and parts.username is not None:
        raise TrackingError(
            "The tracking server's address carries credentials",
            where="tracking.uri" if spec.uri else "MLFLOW_TRACKING_URI",
            expected="an address without them, such as https://mlflow.example.org",
            fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        )
    return uri


def run_url(run: RunRef) -> str:
    """The page of the run in the MLflow UI."""
    return f"{run.tracking_uri}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
