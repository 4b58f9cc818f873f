"""The whole of the endpoint's HTTP surface as one ASGI application, which needs no Ray."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from typing import Any

from fastapi import FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.responses import RedirectResponse

import steerline
from services.console import pages
from services.http import errors
from services.http.access import Access, Admission
from services.http.errors import ApiError
from services.http.headers import SecurityHeaders
from services.http.limits import BodyLimit, Slots
from services.inference import api as inference_api
from services.parts import Parts
from services.simulation import api as simulation_api
from steerline.errors import SteerlineError
from steerline.serving.usage import usage_beside
from steerline.simulation.store.base import Lease

log = logging.getLogger("steerline.http")

_READY_WITHIN_S = 5.0
_READY_FRESH_S = 1.0
_ABOUT = """Steered language models behind OpenAI's interface, and simulations in which they talk.

Every call but `/healthz` and `/readyz` carries a key: `Authorization: Bearer sk-steerline-...`. Errors have OpenAI's
shape.
"""


def web_app(parts: Parts) -> FastAPI:
    """The application: models, simulations, health, the document of itself, and the console."""
    # The page of documentation that FastAPI brings loads its scripts from other people's servers.
    app = FastAPI(title="Steerline", version=steerline.__version__, description=_ABOUT, docs_url=None, redoc_url=None)
    access, limits = parts.spec.access, parts.spec.limits
    app.state.access = Access(access, parts.keys, usage_beside(parts.keys.file), limits.requests_per_minute)
    # Without keys, all callers are one.
    share = limits.key_share if access.required else 1.0
    app.state.texts = Slots(limits.in_flight, "requests for text", share)
    app.state.streams = Slots(limits.streams, "event streams", share)
    errors.install(app)
    _add_health(app, parts)
    app.include_router(inference_api.router(parts))
    app.include_router(simulation_api.router(parts))
    if parts.spec.console:
        pages.mount(app)
    # The last one comes first.
    app.add_middleware(BodyLimit, most_bytes=limits.body_bytes)
    app.add_middleware(Admission)
    app.add_middleware(SecurityHeaders)
    if access.cors_origins:
        # Keys travel in a header that pages set themselves, so no cookies are let through.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
        )
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # FastAPI's own way to replace it
    return app


def _add_health(app: FastAPI, parts: Parts) -> None:
    ready = _Readiness(parts)

    @app.get("/healthz", tags=["health"], summary="Whether the process serves")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["health"],
        summary="Whether the store can be written and the models answer",
        responses={503: {"description": "Not yet, or not now.", "model": dict[str, str]}},
    )
    async def readyz(response: Response) -> dict[str, str]:
        if await ready.now():
            return {"status": "ok"}
        response.status_code = 503
        return {"status": "unready"}

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("console/" if parts.spec.console else "openapi.json")


class _Readiness:
    """Whether the parts answer. It is looked at once for all who ask within a moment, for nobody needs a key to ask.

    Args:
        parts: what the application stands on.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = asyncio.Lock()
        self._is_ready = False
        self._until = 0.0

    async def now(self) -> bool:
        """Whether they do."""
        async with self._lock:
            if time.monotonic() >= self._until:
                self._is_ready = await _ready(self._parts)
                self._until = time.monotonic() + _READY_FRESH_S
        return self._is_ready


async def _ready(parts: Parts) -> bool:
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            # Giving back what nobody holds changes nothing, but only a store that can be written takes it.
            await asyncio.to_thread(parts.store.release, Lease("", "readyz", 0, 0.0))
            await parts.inference.models()
    except (TimeoutError, SteerlineError, ApiError, sqlite3.Error) as error:
        log.warning("not ready: %r", error)
        return False
    return True


def _document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI, without the 422 that FastAPI adds: what does not fit is answered with 400 here."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            document.get("components", {}).get("schemas", {}).pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
