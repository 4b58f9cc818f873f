from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from services.app import web_app
from services.http.errors import ApiError
from services.http.limits import Rates, Slots, stream_slot, text_slot
from services.parts import Parts
from tests.unit.services.stand_in import bearer, parts_in

LIMITS = {"body_bytes": 2048, "in_flight": 2, "streams": 1}
OPEN = {"limits": LIMITS, "access": {"required": False}}


def app_of(parts: Parts, held: anyio.Event) -> FastAPI:
    """The application, with routes that wait inside until `held` is set."""
    app = web_app(parts)

    @app.post("/v1/text", dependencies=[Depends(text_slot)])
    async def text(body: dict[str, str]) -> int:
        await held.wait()
        return len(body)

    @app.get("/v1/events", dependencies=[Depends(stream_slot)])
    async def events() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "data: 1\n\n"
            await held.wait()

        return StreamingResponse(pieces(), media_type="text/event-stream")

    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    json = {"Content-Type": "application/json"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=json)


async def settled() -> None:
    await anyio.wait_all_tasks_blocked()


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 500

    async def main() -> None:
        held = anyio.Event()
        held.set()
        async with client_of(app_of(parts_in(tmp_path, OPEN), held)) as client:
            assert (await client.post("/v1/text", content=b"{}" + b" " * 2046)).status_code == 200
            told = await client.post("/v1/text", content=b"{}" + b" " * 2047)
            found = await client.post("/v1/text", content=chunks())
            for answer in (told, found):
                assert answer.status_code == 413
                assert answer.json()["error"]["code"] == "body_too_long"

    anyio.run(main)


def test_requests_for_text_beyond_the_limit_wait_outside(tmp_path: Path) -> None:
    async def main() -> None:
        held = anyio.Event()
        app = app_of(parts_in(tmp_path, OPEN), held)
        async with client_of(app) as client, anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(lambda: client.post("/v1/text", json={}))
            await settled()
            refused = await client.post("/v1/text", json={})
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "too_many_at_once"
            assert int(refused.headers["Retry-After"]) >= 1
            held.set()
            await settled()
            assert (await client.post("/v1/text", json={})).status_code == 200
            assert app.state.texts.taken == 0

    anyio.run(main)


def test_a_stream_holds_its_slot_until_it_ends_or_its_reader_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        app = app_of(parts_in(tmp_path, OPEN), anyio.Event())
        async with client_of(app) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: client.get("/v1/events"))
                await settled()
                assert app.state.streams.taken == 1
                assert (await client.get("/v1/events")).status_code == 429
                tasks.cancel_scope.cancel()
            assert app.state.streams.taken == 0

    anyio.run(main)


def test_a_slot_is_free_as_soon_as_what_held_it_has_failed() -> None:
    slots = Slots(1, "requests for text")
    state = SimpleNamespace(texts=slots, key=SimpleNamespace(id="ann"))
    connection: Any = SimpleNamespace(app=SimpleNamespace(state=state), state=state)

    async def main() -> None:
        slot = text_slot(connection)
        await anext(slot)
        assert slots.taken == 1
        with pytest.raises(ValueError, match="fault"):
            await slot.athrow(ValueError("fault"))
        assert slots.taken == 0

    anyio.run(main)


def test_one_key_leaves_slots_to_the_others_and_the_next_finds_room(tmp_path: Path) -> None:
    parts = parts_in(tmp_path, {"limits": {"in_flight": 12}})
    ann, bob, eve = (bearer(parts) for _ in range(3))

    async def main() -> None:
        held = anyio.Event()
        app = app_of(parts, held)
        async with client_of(app) as client, anyio.create_task_group() as tasks:

            async def fill(headers: dict[str, str]) -> httpx.Response:
                """Calls until one is refused; that answer."""
                while True:
                    before, refused = app.state.texts.taken, []

                    async def call(into: list[httpx.Response]) -> None:
                        into.append(await client.post("/v1/text", json={}, headers=headers))

                    tasks.start_soon(call, refused)
                    await settled()
                    if app.state.texts.taken == before:
                        return refused[0]

            for headers, taken in ((ann, 6), (bob, 9), (eve, 10)):
                refused = await fill(headers)
                assert app.state.texts.taken == taken
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "share_taken")
                assert "may hold 50% of those that no other holds" in refused.json()["error"]["message"]
                assert int(refused.headers["Retry-After"]) >= 1
            held.set()
        assert app.state.texts.taken == 0

    anyio.run(main)


def test_a_bucket_fills_at_its_rate_and_no_higher_than_a_minutes_calls() -> None:
    now = [0.0]
    rates = Rates(default=2, clock=lambda: now[0])
    for _ in range(2):
        rates.take("ann", None)
    with pytest.raises(ApiError) as caught:
        rates.take("ann", None)
    assert caught.value.retry_after_s == 30
    rates.take("bob", None)
    now[0] = 30.0
    rates.take("ann", None)
    now[0] = 3600.0
    for _ in range(2):
        rates.take("ann", None)
    with pytest.raises(ApiError):
        rates.take("ann", None)
