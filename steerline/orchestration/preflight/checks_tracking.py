"""The tracking server: is there one, and is it MLflow?"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from steerline.orchestration.preflight.core import Finding, ModelScene, failure

_TIMEOUT_S = 3.0


def server(scene: ModelScene) -> Iterator[Finding]:
    """The MLflow server answers."""
    import httpx

    given = scene.spec.tracking.uri
    address = given or scene.environment.get("MLFLOW_TRACKING_URI")
    path = "tracking.uri"
    if not address:
        yield failure(
            "no tracking server is named",
            path=path,
            expected="`tracking.uri`, or MLFLOW_TRACKING_URI",
            fix="`make up` starts one and says its address",
        )
        return
    if urlsplit(address).scheme not in ("http", "https"):
        return
    shown = f"{_without_password(address)} ({'tracking.uri' if given else 'MLFLOW_TRACKING_URI'})"
    try:
        answer = httpx.get(address.rstrip("/") + "/health", timeout=_TIMEOUT_S, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield failure(
            "the tracking server does not answer",
            path=path,
            got=f"{shown}: {error or type(error).__name__}",
            fix="start it (`make up`), or correct the address",
        )
        return
    if not answer.is_success:
        yield failure(
            "something answers at the tracking server's address, but not MLflow",
            path=path,
            got=f"{shown}: HTTP {answer.status_code} from /health",
            fix="correct the address; behind a proxy, allow its host name with `mlflow server --allowed-hosts`",
        )


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
