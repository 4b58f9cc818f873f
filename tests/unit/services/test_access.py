"""Who may call, through the whole application."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from services.app import web_app
from services.http import days
from services.http.access import Principal, require
from services.parts import Parts
from steerline.serving import usage
from tests.unit.services.stand_in import bearer, parts_in

Ask = Callable[[httpx.AsyncClient], Awaitable[None]]


def app_of(parts: Parts) -> FastAPI:
    """The application, with two routes that do nothing but ask for a scope."""
    app = web_app(parts)

    @app.get("/v1/whoami")
    async def whoami(caller: Annotated[Principal, Depends(require("simulations.read"))]) -> dict[str, Any]:
        return {"name": caller.name, "scopes": caller.scopes}

    @app.post("/v1/spend")
    async def spend(caller: Annotated[Principal, Depends(require("inference", asks_models=True))]) -> None:
        caller.spend(10)

    @app.websocket("/v1/socket")
    async def socket(ws: WebSocket, caller: Annotated[Principal, Depends(require("simulations.read"))]) -> None:
        await ws.accept(subprotocol="steerline.v1")
        await ws.send_text(caller.name)
        await ws.close()

    return app


def asking(app: FastAPI, ask: Ask) -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await ask(client)

    anyio.run(main)


def code(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return str(error["code"])


def test_a_key_is_asked_for_and_known(tmp_path: Path) -> None:
    parts = parts_in(tmp_path)

    async def ask(client: httpx.AsyncClient) -> None:
        none_yet = await client.get("/v1/whoami", headers={"Authorization": "Bearer sk-steerline-a-b"})
        assert (none_yet.status_code, code(none_yet)) == (401, "no_keys")
        assert "steerline keys create" in none_yet.json()["error"]["message"]
        good = bearer(parts, "simulations.read")
        missing = await client.get("/v1/whoami")
        assert (missing.status_code, code(missing)) == (401, "missing_key")
        assert missing.headers["WWW-Authenticate"] == "Bearer"
        for wrong in (
            "Bearer nonsense",
            "Bearer " + "sk-steerline-a-b",
            f"Basic {good['Authorization'][7:]}",
            "Bearer",
        ):
            assert (await client.get("/v1/whoami", headers={"Authorization": wrong})).status_code == 401
        answer = await client.get("/v1/whoami", headers=good)
        assert answer.json() == {"name": "key 0", "scopes": ["simulations.read"]}

    asking(app_of(parts), ask)


def test_a_key_does_no_more_than_its_scopes(tmp_path: Path) -> None:
    parts = parts_in(tmp_path)

    async def ask(client: httpx.AsyncClient) -> None:
        refused = await client.get("/v1/whoami", headers=bearer(parts, "inference", "simulations.write"))
        assert (refused.status_code, code(refused)) == (403, "missing_scope")
        assert refused.json()["error"]["type"] == "permission_error"

    asking(app_of(parts), ask)


def test_a_revoked_key_is_refused_at_once(tmp_path: Path) -> None:
    parts = parts_in(tmp_path)
    headers = bearer(parts)

    async def ask(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/whoami", headers=headers)).status_code == 200
        parts.keys.revoke("key 0")
        assert (await client.get("/v1/whoami", headers=headers)).status_code == 401

    asking(app_of(parts), ask)


def test_without_access_control_anyone_may_do_everything(tmp_path: Path) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/whoami")).json()["name"] == "anyone"

    asking(app_of(parts_in(tmp_path, {"access": {"required": False}})), ask)


def test_without_access_control_pages_of_other_sites_may_call_only_when_they_are_named(tmp_path: Path) -> None:
    named = "https://lab.example.org"
    app = app_of(parts_in(tmp_path, {"access": {"required": False, "cors_origins": [named]}}))

    async def ask(client: httpx.AsyncClient) -> None:
        for origin in ("http://localhost", named):
            assert (await client.get("/v1/whoami", headers={"Origin": origin})).status_code == 200
        for origin in ("https://else.where", "null", "http://localhost.else.where"):
            refused = await client.get("/v1/whoami", headers={"Origin": origin})
            assert (refused.status_code, code(refused)) == (403, "foreign_origin")

    asking(app, ask)
    other = {"Origin": "https://else.where"}
    client = TestClient(app, "http://localhost")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/socket", headers=other):
        pass


def test_without_access_control_a_name_that_another_site_gave_this_machine_lets_nobody_in(tmp_path: Path) -> None:
    app = app_of(parts_in(tmp_path, {"access": {"required": False, "hosts": ["Lab.example.org"]}}))
    own = ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "lab.example.org:8000")
    attackers = ("attacker.example:8000", "localhost.attacker.example", "127.0.0.1.attacker.example")
    strange = ("user@attacker.example", "192.0.2.1", "[::1", "")

    async def ask(client: httpx.AsyncClient) -> None:
        for host in (*own, *attackers, *strange):
            # To such a page its own origin and this endpoint are one.
            answer = await client.get("/v1/whoami", headers={"Host": host, "Origin": f"http://{host}"})
            assert answer.status_code == (200 if host in own else 403), host
            if host not in own:
                assert code(answer) == "foreign_host"
            assert (await client.get("/healthz", headers={"Host": host})).status_code == 200

    asking(app, ask)
    rebound = {"Host": "attacker.example:8000", "Origin": "http://attacker.example:8000"}
    client = TestClient(app)
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/socket", headers=rebound):
        pass


def test_who_is_unknown_or_calls_too_often_is_refused_with_nothing_of_the_body_read(tmp_path: Path) -> None:
    parts = parts_in(tmp_path)
    app, slow, read = app_of(parts), bearer(parts, requests_per_minute=1), []

    @app.post("/v1/echo")
    async def echo(body: dict[str, str], _: Annotated[Principal, Depends(require("inference"))]) -> int:
        return len(body)

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"{}"

    async def ask(client: httpx.AsyncClient) -> None:
        client.headers["Content-Type"] = "application/json"
        for path in ("/v1/echo", "/v1/nothing/of/the/kind"):
            assert (await client.post(path, content=body())).status_code == 401
        assert not read
        assert (await client.post("/v1/echo", content=body(), headers=slow)).status_code == 200
        assert len(read) == 1
        assert (await client.post("/v1/echo", content=body(), headers=slow)).status_code == 429
        assert len(read) == 1

    asking(app, ask)


def test_while_another_process_holds_the_file_of_used_tokens_all_are_told_soon_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_BUSY_S", 1.0)
    monkeypatch.setattr(days, "_PATIENCE_S", 0.2)
    parts = parts_in(tmp_path)
    frugal = bearer(parts, tokens_per_day=100)
    (key,) = parts.keys.entries()
    app, book = app_of(parts), usage.usage_beside(parts.keys.file)
    book.add(key.id, 1)

    async def ask(client: httpx.AsyncClient) -> None:
        other = sqlite3.connect(tmp_path / "usage.db", isolation_level=None)
        for statement in ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"):
            other.execute(statement)
        # One after another they would wait for 40 s.
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(client.post("/v1/spend", headers=frugal) for _ in range(40)))
        for answer in answers:
            assert (answer.status_code, code(answer)) == (503, "usage_unreadable")
            assert 1 <= int(answer.headers["Retry-After"]) <= 3
            assert str(tmp_path) not in answer.text
        other.close()
        monkeypatch.setattr(days, "_PATIENCE_S", 60.0)
        assert (await client.post("/v1/spend", headers=frugal)).status_code == 200
        days._BOOKKEEPER.submit(lambda: None).result(10)
        assert book.today(key.id) == 11

    book.close()
    asking(app, ask)


def test_calls_beyond_a_keys_rate_are_told_when_to_come_again(tmp_path: Path) -> None:
    parts = parts_in(tmp_path, {"limits": {"requests_per_minute": 3}})
    slow, default = bearer(parts, requests_per_minute=1), bearer(parts)

    async def ask(client: httpx.AsyncClient) -> None:
        assert [(await client.get("/v1/whoami", headers=default)).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert (await client.get("/v1/whoami", headers=slow)).status_code == 200
        refused = await client.get("/v1/whoami", headers=slow)
        assert (refused.status_code, code(refused)) == (429, "rate_limit_exceeded")
        assert 50 <= int(refused.headers["Retry-After"]) <= 61

    asking(app_of(parts), ask)


def test_a_key_that_has_used_its_tokens_of_the_day_waits_for_the_next(tmp_path: Path) -> None:
    parts = parts_in(tmp_path)
    frugal, other = bearer(parts, tokens_per_day=15), bearer(parts)

    async def ask(client: httpx.AsyncClient) -> None:
        assert [(await client.post("/v1/spend", headers=frugal)).status_code for _ in range(3)] == [200, 200, 429]
        refused = await client.post("/v1/spend", headers=frugal)
        assert code(refused) == "token_quota_exceeded"
        assert 0 < int(refused.headers["Retry-After"]) <= 86_401
        # Reading costs no tokens, and other keys have their own.
        assert (await client.get("/v1/whoami", headers=frugal)).status_code == 200
        assert (await client.post("/v1/spend", headers=other)).status_code == 200

    asking(app_of(parts), ask)
    # A new process finds what the old one counted.
    asking(app_of(parts), lambda client: refused(client, frugal))


async def refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.post("/v1/spend", headers=headers)).status_code == 429


def test_a_file_of_keys_that_cannot_be_trusted_lets_nobody_in(tmp_path: Path) -> None:
    parts = parts_in(tmp_path)
    headers = bearer(parts)
    parts.keys.file.chmod(0o644)

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/whoami", headers=headers)
        assert (answer.status_code, code(answer)) == (503, "keys_unreadable")
        assert str(tmp_path) not in answer.text

    asking(app_of(parts), ask)


def test_no_log_holds_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    parts = parts_in(tmp_path)
    good = bearer(parts)

    async def ask(client: httpx.AsyncClient) -> None:
        for headers in (good, {"Authorization": good["Authorization"] + "x"}, {}):
            for path in ("/v1/whoami", "/nowhere", "/healthz"):
                answer = await client.get(path, headers=headers)
                assert good["Authorization"][7:] not in answer.text

    asking(app_of(parts), ask)
    assert caplog.text
    # The secret itself may hold dashes.
    assert good["Authorization"].split("-", 3)[3] not in caplog.text


def test_a_websockets_key_stands_in_its_header_or_among_its_subprotocols(tmp_path: Path) -> None:
    parts = parts_in(tmp_path)
    headers = bearer(parts)
    client = TestClient(app_of(parts))
    with client.websocket_connect("/v1/socket", headers=headers) as socket:
        assert socket.receive_text() == "key 0"
    offered = ["steerline.v1", f"steerline.key.{headers['Authorization'][7:]}"]
    with client.websocket_connect("/v1/socket", subprotocols=offered) as socket:
        assert socket.accepted_subprotocol == "steerline.v1"
        assert socket.receive_text() == "key 0"
    for wrong in (None, ["steerline.v1", "steerline.key.none"]):
        with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/v1/socket", subprotocols=wrong):
            pass
        assert caught.value.code == 1008


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/v", "/v1/models"),
        ("/api", "/api/v1/models"),
        ("/v1", "/v1/v1/models"),
        # Some servers leave out of the path what stands before the application.
        ("/api", "/v1/models"),
    ],
)
def test_whatever_the_router_serves_behind_a_prefix_is_guarded(tmp_path: Path, root: str, path: str) -> None:
    app = web_app(parts_in(tmp_path))

    async def main() -> None:
        transport = httpx.ASGITransport(app, root_path=root)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            refused = await client.get(path)
            assert (refused.status_code, code(refused)) == (401, "no_keys")

    anyio.run(main)
