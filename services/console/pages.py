"""The console: a web page that starts simulations, watches them and steps in.

Its sources are in `web/`; what browsers get is in `static/`, built by `make console` and committed, so that nobody
needs Node to run it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

HERE = Path(__file__).parent
STATIC = HERE / "static"
WEB = HERE / "web"
STAMP = "sources.sha256"
"""The file among the built ones that says which sources they were built of."""
_LOOSE = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.js")


class _Pages(StaticFiles):
    """Files whose names stay the same from version to version: browsers ask each time whether they have changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def mount(app: FastAPI) -> None:
    """Serve the console at `/console/`."""
    app.mount("/console", _Pages(directory=STATIC, html=True), name="console")


def digest() -> str:
    """SHA-256 of the sources, names and contents, as the build stamps it on what it makes."""
    files = [WEB / name for name in _LOOSE]
    files += [file for folder in ("src", "public") for file in (WEB / folder).rglob("*") if file.is_file()]
    named = sorted((file.relative_to(WEB).as_posix(), file) for file in files)
    found = hashlib.sha256()
    for name, file in named:
        found.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()
