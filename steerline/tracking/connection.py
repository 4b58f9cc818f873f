"""The one place where an MLflow client is made, with limits that never block a run for minutes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import requests

from steerline.errors import TrackingError
from steerline.tracking.backend import Denied, Refused, Unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

T = TypeVar("T")
logger = logging.getLogger(__name__)

# MLflow reads these when it sends a request and takes them from nowhere else. Its own defaults (7 retries with
# doubling waits, 120 s each) would hold a closing run for minutes; the recorder does its own retrying. What a user has
# set stays.
_LIMITS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# Not signed in, not allowed (also MLflow's check of the Host header).
_DENIED = frozenset({401, 403})
# A 4xx that waiting can cure: timed out, too many requests, cancelled.
_PASSING_4XX = frozenset({408, 429, 499})

_CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


class TrackingRefusedError(TrackingError):
    """The server is there, and said no: waiting changes nothing."""


class TrackingDeniedError(TrackingRefusedError):
    """It said no to whoever asked: with other credentials it may say yes."""


def connect(tracking_uri: str) -> MlflowClient:
    """A client for the server. Contacts nothing yet."""
    for name, value in _LIMITS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def sort_out(error: Exception) -> Unavailable | Refused | None:
    """What an error raised by the MLflow client means for the record in hand; none if it is not the client's."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, Unavailable | Refused):
        return error
    reason = f"{type(error).__name__}: {str(error)[:500]}"
    if isinstance(error, MlflowException):
        return _verdict(error.get_http_status_code(), reason, refuses=_judges_the_record(error))
    if isinstance(error, requests.HTTPError):
        status = error.response.status_code if error.response is not None else 500
        # Artefacts: 404 is a server that does not serve them, which its operator can change.
        return _verdict(status, reason, refuses=status != 404)
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return Refused(reason)
    return Unavailable(reason) if isinstance(error, requests.RequestException | OSError) else None


def _verdict(status: int, reason: str, *, refuses: bool) -> Unavailable | Refused:
    if status in _DENIED:
        return Denied(reason)
    return Refused(reason) if refuses and 400 <= status < 500 and status not in _PASSING_4XX else Unavailable(reason)


def _judges_the_record(error: MlflowException) -> bool:
    """MLflow answers its own refusals as JSON (`RestException`) and checks some arguments before it sends them.

    All else, such as a proxy's HTML page or a closed port, says nothing about the record.
    """
    from mlflow.exceptions import RestException

    code = str(error.error_code)
    return code == "INVALID_PARAMETER_VALUE" or (isinstance(error, RestException) and code != "ABORTED")


def patiently(
    call: Callable[[], T],
    *,
    what: str,
    tracking_uri: str,
    timeout_s: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Run a call to the server, again with doubling waits while the server is away.

    Raises:
        TrackingDeniedError: the server wants other credentials.
        TrackingRefusedError: the server said no.
        TrackingError: the server was away for `timeout_s` seconds.
    """
    deadline = clock() + timeout_s
    wait_s = 0.25
    while True:
        try:
            return call()
        except Exception as error:
            verdict = sort_out(error)
            if verdict is None:
                raise
            refusal = f"The tracking server refused to {what}"
            if isinstance(verdict, Denied):
                raise TrackingDeniedError(refusal, where=tracking_uri, got=str(verdict), fix=_CREDENTIALS) from error
            if isinstance(verdict, Refused):
                raise TrackingRefusedError(refusal, where=tracking_uri, got=str(verdict)) from error
            if clock() + wait_s > deadline:
                raise TrackingError(
                    f"The tracking server cannot be reached to {what}",
                    where=tracking_uri,
                    got=str(verdict),
                    expected="an MLflow server at this address",
                    fix="start it (`steerline up`), or set tracking.uri or MLFLOW_TRACKING_URI",
                ) from error
            logger.info("tracking server away, trying again in %.1f s: %s", wait_s, verdict)
            sleep(wait_s)
            wait_s = min(2 * wait_s, 5.0)
