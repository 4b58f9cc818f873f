"""The application as a whole: health, errors, headers, its own document."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI

from services.app import web_app
from services.http.errors import ApiError, responses
from services.parts import Parts
from steerline.errors import ConfigError, CorruptLogError, OverloadedError, Problem, SimulationError, StoreAwayError
from steerline.simulation.store.memory import MemoryStore
from tests.unit.services.stand_in import Parrot, parts_in


def get(app: FastAPI, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
            return await client.get(path, headers=headers)

    return anyio.run(main)


def failing(parts: Parts, error: Exception) -> httpx.Response:
    """The answer of a route that raises."""
    app = web_app(parts)

    @app.get("/fails")
    async def fails(count: int = 0) -> None:
        raise error

    return get(app, "/fails")


class ReadOnlyStore(MemoryStore):
    def release(self, lease: Any) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")


class CountingStore(MemoryStore):
    releases = 0

    def release(self, lease: Any) -> None:
        self.releases += 1


class SilentModels(Parrot):
    async def models(self) -> list[Any]:
        raise ApiError(503, "models_unavailable", "no replica answers")


def test_health_needs_no_key_and_tells_nothing(tmp_path: Path) -> None:
    app = web_app(parts_in(tmp_path))
    for path in ("/healthz", "/readyz"):
        answer = get(app, path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_it_is_not_ready_while_its_store_takes_no_writes_or_its_models_do_not_answer(tmp_path: Path) -> None:
    from dataclasses import replace

    parts = parts_in(tmp_path)
    for broken in (replace(parts, store=ReadOnlyStore()), replace(parts, inference=SilentModels())):
        app = web_app(broken)
        answer = get(app, "/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "unready"})
        assert get(app, "/healthz").status_code == 200


def test_readiness_is_looked_at_once_for_all_who_ask_at_once(tmp_path: Path) -> None:
    store = CountingStore()
    app = web_app(parts_in(tmp_path, store=store))

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
            answers = await asyncio.gather(*(client.get("/readyz") for _ in range(20)))
        assert [answer.status_code for answer in answers] == [200] * 20

    anyio.run(main)
    assert store.releases == 1


def test_unknown_paths_and_methods_have_the_shape_of_every_error(tmp_path: Path) -> None:
    app = web_app(parts_in(tmp_path))
    answer = get(app, "/nothing/here")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SimulationError("there is no such scenario", where="/secret/place.yaml", got="x"), 400, "simulation"),
        (OverloadedError("too much waits", retry_after_s=2.0), 429, "overloaded"),
        (StoreAwayError("the store does not answer", where="/secret", got="no socket at /secret"), 503, "store"),
        (CorruptLogError("the log was altered", where="/secret"), 500, "internal_error"),
        (ConfigError("bad", problems=[Problem("not a number", path="agents.0")]), 400, "config"),
        (ZeroDivisionError("/secret"), 500, "internal_error"),
        (ApiError(409, "conflict", "it ended", param="sim"), 409, "conflict"),
    ],
)
def test_errors_become_answers_without_this_machines_paths(
    tmp_path: Path, error: Exception, status: int, code: str
) -> None:
    answer = failing(parts_in(tmp_path), error)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "/secret" not in answer.text
    assert ("Retry-After" in answer.headers) == (status in (429, 503))


def test_what_does_not_fit_is_named_by_its_place(tmp_path: Path) -> None:
    app = web_app(parts_in(tmp_path))

    @app.get("/counts")
    async def counts(count: int) -> int:
        return count

    answer = get(app, "/counts?count=many")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "count"


def test_every_answer_says_what_browsers_may_do_with_it(tmp_path: Path) -> None:
    app = web_app(parts_in(tmp_path))
    for path in ("/healthz", "/console/", "/nowhere", "/openapi.json"):
        headers = get(app, path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]


def test_other_sites_may_call_only_when_they_are_named(tmp_path: Path) -> None:
    lab = {"Origin": "https://lab.example.org"}
    closed = get(web_app(parts_in(tmp_path)), "/healthz", lab)
    assert "Access-Control-Allow-Origin" not in closed.headers
    opened = web_app(parts_in(tmp_path, {"access": {"cors_origins": ["https://lab.example.org"]}}))
    headers = get(opened, "/healthz", lab).headers
    assert headers["Access-Control-Allow-Origin"] == "https://lab.example.org"
    assert headers["Access-Control-Expose-Headers"] == "Retry-After"
    assert "Access-Control-Allow-Origin" not in get(opened, "/healthz", {"Origin": "https://else.where"}).headers


def test_its_document_describes_keys_and_errors_and_needs_no_other_server(tmp_path: Path) -> None:
    app = web_app(parts_in(tmp_path))
    document = get(app, "/openapi.json").json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1/"):
                assert {"400", "401", "403", "413", "429", "500", "503"} <= operation["responses"].keys(), path
                assert operation["security"] == [{"key": []}]
            assert "422" not in operation["responses"]
    assert get(app, "/docs").status_code == 404


def test_a_path_with_a_query_that_is_no_text_is_not_found_either(tmp_path: Path) -> None:
    app, sent = web_app(parts_in(tmp_path)), []
    scope = {"type": "http", "method": "GET", "path": "/nowhere", "query_string": b"\xff", "headers": []}

    async def main() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)

    asyncio.run(main())
    assert sent[0]["status"] == 404


def test_documented_errors_have_one_shape_and_say_when_to_come_again() -> None:
    described = responses(404)
    assert set(described) == {400, 401, 403, 404, 413, 429, 500, 503}
    for status in (429, 503):
        assert "Retry-After" in described[status]["headers"]
