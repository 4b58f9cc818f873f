from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from steerline.config.inference import OpenAIBackendSpec, SamplingSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.errors import InferenceError
from steerline.inference.backends.openai import OpenAIBackend
from steerline.inference.request import ChatMessage, Delta, GenRequest, GenResult, TokenLogprob, Usage

KEY = "sk-very-secret"
ANSWER = {
    "id": "x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 5}},
}
HELLO = GenRequest("m", (ChatMessage("system", "be brief"), ChatMessage("user", "2 + 2")))
Respond = Callable[[httpx.Request], httpx.Response]


def ask(respond: Respond, request: GenRequest = HELLO, **fields: Any) -> GenResult:
    spec = OpenAIBackendSpec.model_validate({"kind": "openai", "url": "http://server/v1", "model": "big", **fields})

    async def main() -> GenResult:
        backend = OpenAIBackend(spec, httpx.MockTransport(respond))
        (result,) = await backend.generate([request])
        await backend.close()
        return result

    return asyncio.run(main())


def sent(request: GenRequest, **fields: Any) -> tuple[httpx.Request, dict[str, Any]]:
    seen: list[httpx.Request] = []

    def respond(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        return httpx.Response(200, json=ANSWER)

    ask(respond, request, **fields)
    return seen[0], json.loads(seen[0].content)


def test_a_conversation_is_posted_and_its_answer_and_usage_are_read() -> None:
    asked, body = sent(HELLO)
    assert (asked.method, str(asked.url)) == ("POST", "http://server/v1/chat/completions")
    assert "authorization" not in asked.headers
    assert body == {
        "model": "big",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "2 + 2"}],
        "temperature": 0.0,
        "max_tokens": 128,
    }
    result = ask(lambda _: httpx.Response(200, json=ANSWER))
    assert (result.text, result.finish_reason, result.usage) == ("4", "stop", Usage(9, 1, 5))


def test_sampling_seed_schema_and_steering_are_passed_on() -> None:
    request = GenRequest(
        "m",
        HELLO.messages,
        sampling=SamplingSpec(temperature=0.7, top_p=0.9, max_tokens=5, stop=("\n",)),
        seed=11,
        response_schema={"type": "object"},
        steering=SteeringSpec(boost=BoostSpec(strength=0.5)),
    )
    _, body = sent(request, steering=True)
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["stop"]) == (0.7, 0.9, 5, ["\n"])
    assert body["seed"] == 11
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert SteeringSpec.model_validate(body["steering"]) == request.steering


def test_a_prompt_goes_to_the_completions() -> None:
    asked, body = sent(GenRequest("m", prompt="Once"))
    assert asked.url.path == "/v1/completions"
    assert body["prompt"] == "Once"
    answer = {"choices": [{"text": " upon", "finish_reason": "length"}]}
    result = ask(lambda _: httpx.Response(200, json=answer), GenRequest("m", prompt="Once"))
    assert (result.text, result.finish_reason) == (" upon", "length")


def test_a_server_that_does_not_steer_is_not_asked_to() -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        raise AssertionError

    result = ask(respond, GenRequest("m", prompt="a", steering=SteeringSpec()))
    assert result.failure is not None
    assert result.failure.kind == "refused"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (429, "busy"),
        (503, "busy"),
        (529, "busy"),
        (500, "unavailable"),
        (502, "unavailable"),
        (504, "unavailable"),
        (408, "timeout"),
        (400, "refused"),
        (401, "refused"),
        (404, "refused"),
        (302, "refused"),
    ],
)
def test_a_status_is_a_failure_of_its_kind_with_what_the_server_said(code: int, kind: str) -> None:
    failure = ask(lambda _: httpx.Response(code, json={"error": {"message": "because"}})).failure
    assert failure is not None
    assert (failure.kind, failure.what) == (kind, f"the server answered {code}: because")


def test_a_prompt_beyond_the_context_is_told_apart() -> None:
    error = {"error": {"message": "too many tokens", "code": "context_length_exceeded"}}
    failure = ask(lambda _: httpx.Response(400, json=error)).failure
    assert failure is not None
    assert failure.kind == "too_long"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("soon", None),
        ("-3", None),
        ("", None),
    ],
)
def test_the_server_may_say_when_to_come_again(value: str, seconds: float | None) -> None:
    failure = ask(lambda _: httpx.Response(429, headers={"Retry-After": value}, text="slow down")).failure
    assert failure is not None
    assert failure.retry_after_s == seconds


@pytest.mark.parametrize(("from_now", "seconds"), [(100, 100.0), (-100, 0.0)])
def test_the_server_may_say_when_to_come_again_as_a_date(from_now: int, seconds: float) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=from_now), usegmt=True)
    failure = ask(lambda _: httpx.Response(429, headers={"Retry-After": date}, text="slow down")).failure
    assert failure is not None
    assert failure.retry_after_s == pytest.approx(seconds, abs=60)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadError("reset")])
def test_a_lost_connection_is_a_failure_to_repeat(error: httpx.TransportError) -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        raise error

    failure = ask(respond).failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == ("unavailable", True)


def test_an_answer_that_does_not_come_in_time_is_given_up() -> None:
    async def respond(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    failure = ask(respond, timeout_s=0.01).failure
    assert failure is not None
    assert failure.kind == "timeout"


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"choices": []}),
        httpx.Response(200, json={"choices": [{"message": {"content": ["parts"]}}]}),
        httpx.Response(200, json=[1]),
    ],
)
def test_an_answer_of_another_form_is_a_failure_and_no_text(response: httpx.Response) -> None:
    failure = ask(lambda _: response).failure
    assert failure is not None
    assert failure.what.startswith("the server's answer has another form")


def test_a_filtered_answer_is_a_failure_and_took_what_the_server_says() -> None:
    took = {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    answer = {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}], **took}
    for result in (
        ask(lambda _: httpx.Response(200, json=answer)),
        stream(events(chunk("4", "content_filter"), {"choices": [], **took}, "[DONE]"))[-1].result,
    ):
        assert result is not None
        assert result.failure is not None
        assert result.usage == Usage(7, 3)


def test_the_key_comes_from_the_environment_or_a_file_and_is_only_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BIG_KEY", KEY)
    (tmp_path / "key").write_text(KEY + "\n")
    for place in ({"key_env": "BIG_KEY"}, {"key_file": str(tmp_path / "key")}):
        asked, body = sent(HELLO, **place)
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert KEY not in json.dumps(body)
        failed = ask(lambda _: httpx.Response(401, json={"error": "no"}), **place)
        assert KEY not in repr(failed)


@pytest.mark.parametrize("place", [{"key_env": "NO_SUCH_KEY"}, {"key_file": "/no/such/file"}])
def test_a_missing_key_is_told_before_anything_is_sent(place: dict[str, str]) -> None:
    with pytest.raises(InferenceError, match="no key"):
        ask(lambda _: httpx.Response(200, json=ANSWER), **place)


def test_each_request_is_a_call_of_its_own_under_an_adaptive_limit() -> None:
    spec = OpenAIBackendSpec(kind="openai", url="http://server/v1", model="big", max_in_flight=30)
    limits = OpenAIBackend(spec).limits
    assert (limits.max_batch, limits.in_flight, limits.adaptive) == (1, 30, True)


def stream(respond: Respond, request: GenRequest = HELLO, **fields: Any) -> list[Delta]:
    spec = OpenAIBackendSpec.model_validate({"kind": "openai", "url": "http://server/v1", "model": "big", **fields})

    async def main() -> list[Delta]:
        backend = OpenAIBackend(spec, httpx.MockTransport(respond))
        pieces = [piece async for piece in backend.stream(request)]
        await backend.close()
        return pieces

    return asyncio.run(main())


def events(*chunks: dict[str, Any] | str) -> Respond:
    lines = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    body = ": a comment\n\n" + "".join(f"data: {line}\n\n" for line in lines)
    return lambda _: httpx.Response(200, content=body.encode(), headers={"content-type": "text/event-stream"})


def chunk(content: str | None, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason, **fields}]}


USED = {"choices": [], "usage": ANSWER["usage"]}


def test_a_streamed_answer_comes_in_the_server_s_pieces() -> None:
    pieces = stream(events(chunk(""), chunk("4"), chunk(" →"), chunk(None, "length"), USED, "[DONE]"))
    assert [piece.text for piece in pieces] == ["4", " →", ""]
    last = pieces[-1].result
    assert last is not None
    assert (last.text, last.finish_reason, last.usage) == ("4 →", "length", Usage(9, 1, 5))


def test_a_streamed_request_asks_for_pieces_usage_and_steering() -> None:
    seen: list[dict[str, Any]] = []

    def respond(asked: httpx.Request) -> httpx.Response:
        seen.append(json.loads(asked.content))
        return events(chunk("4", "stop"), "[DONE]")(asked)

    steered = GenRequest("m", HELLO.messages, steering=SteeringSpec(boost=BoostSpec(strength=0.5)), top_logprobs=2)
    stream(respond, steered, steering=True)
    (body,) = seen
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert body["steering"]["boost"]["strength"] == 0.5
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


def test_logprobs_are_read_from_both_interfaces() -> None:
    wanted = (TokenLogprob("4", -0.25, (("4", -0.25), ("5", -2.0))),)
    tops = [{"token": "4", "logprob": -0.25}, {"token": "5", "logprob": -2.0}]
    chat = {"content": [{"token": "4", "logprob": -0.25, "top_logprobs": tops}]}
    plain = {"tokens": ["4"], "token_logprobs": [-0.25], "top_logprobs": [{"5": -2.0, "4": -0.25}]}
    assert stream(events(chunk("4", "stop", logprobs=chat), "[DONE]"))[-1].result.logprobs == wanted  # type: ignore[union-attr]
    answer = {"choices": [{"text": "4", "finish_reason": "stop", "logprobs": plain}]}
    assert ask(lambda _: httpx.Response(200, json=answer), GenRequest("m", prompt="2 + 2 =")).logprobs == wanted


@pytest.mark.parametrize(
    ("respond", "kind"),
    [
        (lambda _: httpx.Response(429, json={"error": {"message": "slowly"}}), "busy"),
        (events(chunk("4")), "unavailable"),
        (events(chunk("4"), {"error": {"message": "a GPU fell off"}}), "unavailable"),
        (events(chunk("4"), "{"), "refused"),
        (events(chunk("4", "content_filter"), "[DONE]"), "refused"),
    ],
)
def test_a_stream_that_fails_says_why_in_its_last_piece(respond: Respond, kind: str) -> None:
    result = stream(respond)[-1].result
    assert result is not None
    assert result.failure is not None
    assert result.failure.kind == kind


def test_a_stream_is_not_steered_by_a_server_that_cannot() -> None:
    steered = GenRequest("m", HELLO.messages, steering=SteeringSpec(boost=BoostSpec(strength=0.5)))
    (piece,) = stream(events(), steered)
    assert piece.result is not None
    assert piece.result.failure is not None
    assert piece.result.failure.kind == "refused"
