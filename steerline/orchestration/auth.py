"""Ray's token: where it lies, how it is made, how a request carries it."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

MODE_VARIABLE = "RAY_AUTH_MODE"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"  # the name of a variable, not a token  # noqa: S105
TOKEN_PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"  # noqa: S105
DEFAULT_TOKEN_PATH = Path(".ray") / "auth_token"


def create_token(path: Path) -> None:
    """Write a new token that only this user can read; an existing one is kept and its mode mended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A full disk may have left an empty one.
    if path.is_file() and path.stat().st_size:
        path.chmod(0o600)
        return
    descriptor, draft = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # nobody else may read it
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    Path(draft).replace(path)


def token_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where Ray looks for the token file."""
    given = environment.get(TOKEN_PATH_VARIABLE)
    return Path(given) if given else Path.home() / DEFAULT_TOKEN_PATH


def headers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The HTTP headers that carry the token, looked up in Ray's order; none when there is no token or auth is off.

    Ray reads the environment once per process and keeps the answer; reading it here lets one process speak to several
    clusters.
    """
    if environment.get(MODE_VARIABLE, "token") != "token":
        return {}
    token = environment.get(TOKEN_VARIABLE, "").strip()
    path = token_path(environment)
    if not token and path.is_file():
        token = path.read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else {}
