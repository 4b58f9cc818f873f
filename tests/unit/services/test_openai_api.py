"""OpenAI's interface in detail: what is understood, what is refused, and what a client is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.http import standing
from services.inference.schemas import rebased
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.serving.keys import KeyBook
from steerline.serving.usage import usage_beside
from tests.unit.services.openai_service import CHATS, Endless, Speaker, application, asked

CHAT: dict[str, Any] = {"model": "model", "messages": [{"role": "user", "content": "hello"}]}
FUNCTION: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
DEEP: dict[str, Any] = {}
for _ in range(60):
    DEEP = {"items": DEEP}


def keeping(schema: Any) -> dict[str, Any]:
    """The field that has an answer keep a schema."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[FastAPI, Speaker]:
    model = Speaker()
    return application(tmp_path_factory.mktemp("served"), model=model), model


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"frobnicate": 1}, "frobnicate"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"max_tokens": 5000}, "max_tokens"),
        ({"max_completion_tokens": 5000}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"steering": {"boost": {"strngth": 1}}}, "steering.boost.strngth"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        ({"steering": -1}, "steering"),
        ({"tool_choice": "required"}, "tools"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": "required", "response_format": {"type": "json_object"}}, "tool_choice"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}}}, "response"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": DEEP}}}, "response_format"),
        (keeping({"$ref": "http://127.0.0.1:1/schema"}), "response_format"),
        (keeping({"properties": {"default": {"$ref": "http://127.0.0.1:1/schema"}}}), "response_format"),
        (keeping({"$ref": "\ud800"}), "response_format"),
        (keeping({"title": "\ud800"}), "response_format"),
        (keeping({"pattern": "(" * 5000}), "response_format"),
        (keeping({"pattern": "a{99999999999}"}), "response_format"),
        (keeping({"properties": {f"p{n}": {"type": "string"} for n in range(3000)}}), "response_format"),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "parameters": {"allOf": [{}] * 1500}}}
                    for _ in range(3)
                ]
            },
            "tools.2",
        ),
        ({"messages": [{"role": "user", "content": "half a character: \ud800"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "\ud800"}]}]}, "messages.0"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "\ud800"}}}, "tool_choice"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(
    served: tuple[FastAPI, Speaker], change: dict[str, Any], param: str
) -> None:
    app, model = served
    (response,) = asked(app, {**CHAT, **change})
    assert response.json().keys() == {"error"}
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"].startswith(param)
    assert not model.asked


def test_fields_reach_the_model(tmp_path: Path) -> None:
    model = Speaker()
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 7,
        "stop": "x",
        "seed": 3,
        "user": "somebody",
        "frequency_penalty": 0,
        "presence_penalty": None,
        "steering": {"boost": {"strength": 0.5, "layers": [0, 1]}},
    }
    (response,) = asked(application(tmp_path, model=model), {**CHAT, **fields})
    assert response.status_code == 200
    request = model.asked[0]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.stop) == (0.5, 0.9, 7, ("x",))
    assert request.seed == 3
    assert request.steering == SteeringSpec(boost=BoostSpec(strength=0.5, layers=(0, 1)))


def test_defaults_are_those_of_the_interface(tmp_path: Path) -> None:
    model = Speaker()
    app = application(tmp_path, {"limits": {"most_tokens": 99}}, model=model)
    asked(app, CHAT)
    asked(app, {"model": "model", "prompt": ["x"]}, path="/v1/completions")
    assert [(one.sampling.temperature, one.sampling.max_tokens) for one in model.asked] == [(1.0, 99), (1.0, 16)]
    assert model.asked[0].seed != model.asked[1].seed


def test_a_number_is_a_strength_and_0_is_the_plain_model(tmp_path: Path) -> None:
    model = Speaker()
    asked(application(tmp_path, model=model), *({**CHAT, "steering": strength} for strength in (0, 1)))
    assert [request.steering for request in model.asked] == [None, SteeringSpec(boost=BoostSpec(strength=1.0))]


def test_functions_are_told_to_the_model_and_hold_its_answer(tmp_path: Path) -> None:
    model = Speaker(lambda request: "{")
    parameters = {"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}
    tool = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": parameters}}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 2"}]
    body = {**CHAT, "messages": messages, "tools": [tool, FUNCTION], "tool_choice": "required"}
    (response,) = asked(application(tmp_path, model=model), body)
    answer = response.json()["choices"][0]
    request = model.asked[0]
    assert [message.role for message in request.messages] == ["system", "user"]
    assert '"description": "adds"' in request.messages[0].content
    assert request.response_schema is not None
    assert request.response_schema["$defs"]["add"]["properties"]["a"] == {"$ref": "#/$defs/add/$defs/n"}
    # What is cut off is no call, and is shown as it is.
    assert (answer["finish_reason"], answer["message"]["content"]) == ("stop", "{")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("said", "is_call"),
    [
        ('{"name": "f", "arguments": {}}', True),
        ('{"name": "g", "arguments": {}}', False),
        ('{"name": "f", "arguments": 5}', False),
        ("no call", False),
        ("{not json", False),
        ('{"name": "f", "arguments": {"half of a pair": "\\ud800"}}', False),
        ('{"name": "f", "arguments": {"no JSON": 1e999}}', False),
    ],
)
def test_where_the_model_decides_a_call_is_a_call_and_all_else_is_text(
    tmp_path: Path, said: str, is_call: bool, stream: bool
) -> None:
    app = application(tmp_path, model=Speaker(lambda _: said))
    (response,) = asked(app, {**CHAT, "tools": [FUNCTION], "stream": stream})
    if stream:
        choices = [json.loads(data)["choices"][0] for data in _data(response.text)[:-1]]
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        calls, reason = [c for c in choices if "tool_calls" in c["delta"]], choices[-1]["finish_reason"]
    else:
        choice = response.json()["choices"][0]
        text, calls = choice["message"]["content"] or "", choice["message"]["tool_calls"] or []
        reason = choice["finish_reason"]
    assert (len(calls), reason) == ((1, "tool_calls") if is_call else (0, "stop"))
    assert text == ("" if is_call else said)


def test_a_stream_is_events_that_end_with_done(tmp_path: Path) -> None:
    (response,) = asked(application(tmp_path, model=Speaker()), {**CHAT, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    data = _data(response.text)
    assert data[-1] == "[DONE]"
    first = json.loads(data[0])
    assert (first["object"], first["choices"][0]["delta"]) == (
        "chat.completion.chunk",
        {"role": "assistant", "content": "hello"},
    )


def test_tokens_count_against_the_day_of_a_key_also_where_they_are_streamed(tmp_path: Path) -> None:
    app = application(tmp_path, {"access": {"required": True}}, model=Speaker())
    key, _ = KeyBook(tmp_path / "keys.json").create("k", ("inference",), tokens_per_day=4)
    bodies = [{**CHAT, "stream": True}, CHAT, CHAT]
    responses = asked(app, *bodies, headers={"Authorization": f"Bearer {key}"})
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[-1].json()["error"]["code"] == "token_quota_exceeded"


@pytest.mark.parametrize("stream", [False, True])
def test_calls_side_by_side_share_what_is_left_of_a_day_also_those_of_two_replicas(
    tmp_path: Path, stream: bool
) -> None:
    model = Endless()
    app, other = (application(tmp_path, {"access": {"required": True}}, model=model) for _ in range(2))
    key, _ = KeyBook(tmp_path / "keys.json").create("k", ("inference",), tokens_per_day=1000)
    headers = {"Authorization": f"Bearer {key}"}
    body = {**CHAT, "stream": stream}

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            first = asyncio.create_task(client.post(CHATS, json={**body, "max_tokens": 990}))
            assert await asyncio.to_thread(model.begun.wait, 10)
            model.begun.clear()
            second = asyncio.create_task(client.post(CHATS, json={**body, "max_tokens": 50}))
            assert await asyncio.to_thread(model.begun.wait, 10)
            elsewhere = httpx.AsyncClient(
                transport=httpx.ASGITransport(other), base_url="http://localhost", headers=headers
            )
            async with asyncio.timeout(10), elsewhere:
                for replica in (client, elsewhere):
                    refused = await replica.post(CHATS, json={**body, "max_tokens": 50})
                    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "token_quota_held")
            for one in (first, second):
                one.cancel()
            await asyncio.gather(first, second, return_exceptions=True)
            model.begun.clear()
            again = asyncio.create_task(client.post(CHATS, json=body))
            assert await asyncio.to_thread(model.begun.wait, 10)
            again.cancel()

    asyncio.run(main())


def test_a_stream_ends_with_an_error_when_its_key_is_revoked_and_its_tokens_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "CHECK_EVERY_S", 0.02)
    model, keys = Endless(words=3), KeyBook(tmp_path / "keys.json")
    app = application(tmp_path, {"access": {"required": True}}, model=model)
    key, entry = keys.create("k", ("inference",))
    usage = usage_beside(keys.file)
    assert usage.today(entry.id) == 0

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            streaming = asyncio.create_task(client.post(CHATS, json={**CHAT, "stream": True}))
            assert await asyncio.to_thread(model.begun.wait, 10)
            keys.revoke("k")
            async with asyncio.timeout(10):
                answer = await streaming
                while not usage.today(entry.id):
                    await asyncio.sleep(0.01)
                return answer

    *_, error, done = _data(asyncio.run(main()).text)
    assert (json.loads(error)["error"]["code"], done) == ("invalid_api_key", "[DONE]")
    assert model.ended.is_set()


def test_a_body_that_is_too_long_or_no_json_is_refused(tmp_path: Path) -> None:
    app = application(tmp_path, {"limits": {"body_bytes": 1024}}, model=Speaker())
    long, broken = asked(app, {**CHAT, "user": "x" * 2000}, b"[" * 1000)
    assert (long.status_code, broken.status_code) == (413, 400)


def test_references_of_a_schema_that_moves_lead_where_it_went() -> None:
    schema = {"$ref": "#", "a": [{"$ref": "#/$defs/n"}], "const": {"$ref": "#/x"}}
    moved = {"$ref": "#/$defs/f", "a": [{"$ref": "#/$defs/f/$defs/n"}], "const": {"$ref": "#/x"}}
    assert rebased(schema, "#/$defs/f") == moved
    # Names are no keywords.
    named = {"properties": {"default": {"$ref": "#/$defs/n"}, "$ref": {"type": "string"}}}
    assert rebased(named, "#/f") == {"properties": {"default": {"$ref": "#/f/$defs/n"}, "$ref": {"type": "string"}}}


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_client_asked_for_counts_though_it_goes_away_before_there_is_an_answer(
    tmp_path: Path, stream: bool
) -> None:
    model = Endless()
    app = application(tmp_path, {"access": {"required": True}}, model=model)
    key, entry = KeyBook(tmp_path / "keys.json").create("k", ("inference",))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    usage = usage_beside(tmp_path / "keys.json")
    assert usage.today(entry.id) == 0

    async def leave() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            body = {"model": "model", "stream": stream, "messages": [{"role": "user", "content": "x" * 400}]}
            waiting = asyncio.create_task(client.post(CHATS, json=body))
            assert await asyncio.to_thread(model.begun.wait, 10)
            waiting.cancel()
            async with asyncio.timeout(10):
                while usage.today(entry.id) != 100:
                    await asyncio.sleep(0.01)

    asyncio.run(leave())


def _data(events: str) -> list[str]:
    return [line.removeprefix("data: ") for line in events.split("\n\n") if line]
