"""What a stream has cost is paid for, whatever becomes of its connection."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from services.http import days
from steerline.inference.request import Failure, Usage
from steerline.serving.keys import KeyBook
from steerline.serving.usage import UsageBook, usage_beside
from tests.unit.services.openai_service import CHATS, Endless, Failing, Speaker, application, asked

ASKED = {"model": "model", "messages": [{"role": "user", "content": "hello"}], "stream": True}


def scope_of(key: str, version: str) -> dict[str, Any]:
    """A chat's connection, as servers of a version of ASGI describe it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": version},
        "method": "POST",
        "scheme": "http",
        "path": CHATS,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"authorization", f"Bearer {key}".encode())],
    }


@pytest.mark.parametrize("version", ["2.3", "2.4"])
@pytest.mark.parametrize("sendable", [0, 2])
def test_what_a_model_has_written_is_paid_for_though_little_or_nothing_of_it_can_be_sent(
    tmp_path: Path, sendable: int, version: str
) -> None:
    model, keys, gone = Endless(words=80), KeyBook(tmp_path / "keys.json"), asyncio.Event()
    app = application(tmp_path, {"access": {"required": True}}, model=model)
    key, entry = keys.create("k", ("inference",), tokens_per_day=1000)
    usage, sent = usage_beside(keys.file), []
    coming = [{"type": "http.request", "body": json.dumps(ASKED).encode()}]

    async def receive() -> dict[str, Any]:
        if coming:
            return coming.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        assert await asyncio.to_thread(model.begun.wait, 10)
        if len(sent) == sendable:
            # Servers say that a client has gone by what is sent, or by what is received.
            if version == "2.4":
                raise OSError("the connection is gone")
            gone.set()
            await asyncio.Event().wait()
        sent.append(message)

    async def main() -> None:
        async with asyncio.timeout(20):
            with suppress(ClientDisconnect):
                await app(scope_of(key, version), receive, send)
            while not usage.today(entry.id):
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert (len(sent), model.ended.is_set()) == (sendable, True)
    # "hello", and 80 times "word ".
    assert usage.today(entry.id) == (5 + 80 * 5) // 4


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_written_is_counted_before_it_is_held_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    told: list[str] = []
    for name in ("add", "release"):
        monkeypatch.setattr(UsageBook, name, lambda *_, name=name: told.append(name))
    app = application(tmp_path, {"access": {"required": True}}, model=Speaker())
    key, _ = KeyBook(tmp_path / "keys.json").create("k", ("inference",), tokens_per_day=1000)
    asked(app, {**ASKED, "stream": stream}, headers={"Authorization": f"Bearer {key}"})
    # What the book is told, it is told in order.
    days._BOOKKEEPER.submit(lambda: None).result(10)
    assert told == ["add", "release"]


@pytest.mark.parametrize(("stream", "words"), [(False, 0), (True, 0), (True, 2)])
@pytest.mark.parametrize("took", [Usage(), Usage(7, 2)])
def test_a_refused_answer_is_paid_for_as_far_as_it_came(tmp_path: Path, stream: bool, words: int, took: Usage) -> None:
    app = application(
        tmp_path, {"access": {"required": True}}, model=Failing(Failure("refused", "because"), words, usage=took)
    )
    keys = KeyBook(tmp_path / "keys.json")
    key, entry = keys.create("k", ("inference",), tokens_per_day=1000)
    (answer,) = asked(app, {**ASKED, "stream": stream}, headers={"Authorization": f"Bearer {key}"})
    assert "because" in answer.text
    days._BOOKKEEPER.submit(lambda: None).result(10)
    assert usage_beside(keys.file).today(entry.id) == took.prompt_tokens + took.completion_tokens
