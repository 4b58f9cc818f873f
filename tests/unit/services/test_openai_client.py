"""The official Python client of OpenAI, against a server that listens."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai as official
import pytest
from pydantic import BaseModel

from steerline.inference.request import Delta, Failure, GenRequest
from tests.unit.services.openai_service import Endless, Failing, Speaker, application, openai

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two three"}]
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}


class Point(BaseModel):
    x: int


def test_chats_completions_streams_and_models_work(tmp_path: Path) -> None:
    with openai(application(tmp_path, parrot=Speaker())) as client:
        assert [model.id for model in client.models.list()] == ["parrot"]
        assert client.models.retrieve("parrot").owned_by == "steerline"

        chat = client.chat.completions.create(model="parrot", messages=MESSAGES, max_tokens=2)
        assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == ("one two", "length")
        assert chat.usage is not None
        assert chat.usage.prompt_tokens_details is not None
        assert (chat.usage.total_tokens, chat.usage.prompt_tokens_details.cached_tokens) == (5 + 2, 1)

        pieces = list(
            client.chat.completions.create(
                model="parrot", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        )
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "one two three"
        assert pieces[0].choices[0].delta.role == "assistant"
        assert [piece.choices[0].finish_reason for piece in pieces if piece.choices][-1] == "stop"
        assert pieces[-1].usage is not None
        assert pieces[-1].usage.completion_tokens == 3
        assert len({piece.id for piece in pieces}) == 1

        text = client.completions.create(model="parrot", prompt="one two", logprobs=2)
        assert text.choices[0].text == "one two"
        assert text.choices[0].logprobs is not None
        assert text.choices[0].logprobs.text_offset == [0, 3]
        streamed = client.completions.create(model="parrot", prompt="one two", stream=True)
        assert "".join(piece.choices[0].text for piece in streamed) == "one two"


def test_log_probabilities_stand_beside_the_tokens(tmp_path: Path) -> None:
    with openai(application(tmp_path, parrot=Speaker())) as client:
        arguments: Any = {"model": "parrot", "messages": MESSAGES, "logprobs": True, "top_logprobs": 2}
        whole = client.chat.completions.create(**arguments).choices[0].logprobs
        assert whole is not None
        assert whole.content is not None
        assert [(token.token, token.bytes) for token in whole.content][1] == (" two", list(b" two"))
        assert [top.token for top in whole.content[0].top_logprobs] == ["a", "b"]
        streamed = [
            token.token
            for piece in client.chat.completions.create(**arguments, stream=True)
            if (logprobs := piece.choices[0].logprobs) is not None
            for token in logprobs.content or ()
        ]
        assert streamed == ["one", " two", " three"]


def test_answers_are_parsed_into_types_and_calls(tmp_path: Path) -> None:
    def policy(request: Any) -> str:
        if request.response_schema is None:
            return "no function is needed"
        if "anyOf" in request.response_schema or "$defs" in request.response_schema:
            return '{"name": "add", "arguments": {"a": 1, "b": 2}}'
        return '{"x": 3}'

    speaker = Speaker(policy)
    with openai(application(tmp_path, model=speaker)) as client:
        parsed = client.chat.completions.parse(model="model", messages=MESSAGES, response_format=Point)
        assert parsed.choices[0].message.parsed == Point(x=3)
        assert speaker.asked[0].response_schema == Point.model_json_schema() | {"additionalProperties": False}
        for choice in ("required", {"type": "function", "function": {"name": "add"}}):
            arguments: Any = {"model": "model", "messages": MESSAGES, "tools": [ADD], "tool_choice": choice}
            called = client.chat.completions.create(**arguments).choices[0]
            assert called.finish_reason == "tool_calls"
            assert called.message.content is None
            assert called.message.tool_calls is not None
            assert called.message.tool_calls[0].function.arguments == '{"a": 1, "b": 2}'
            pieces = [piece.choices[0] for piece in client.chat.completions.create(**arguments, stream=True)]
            assert [len(piece.delta.tool_calls or ()) for piece in pieces] == [1, 0]
            assert pieces[-1].finish_reason == "tool_calls"
        free = client.chat.completions.create(model="model", messages=MESSAGES, tools=[ADD])
        assert free.choices[0].message.content == "no function is needed"


def test_each_of_several_prompts_has_its_answers(tmp_path: Path) -> None:
    with openai(application(tmp_path, parrot=Speaker())) as client:
        arguments: Any = {"model": "parrot", "prompt": ["one two", "three", "four five six"], "n": 2}
        whole = client.completions.create(**arguments)
        assert [choice.text for choice in whole.choices] == ["one two"] * 2 + ["three"] * 2 + ["four five six"] * 2
        assert [choice.index for choice in whole.choices] == list(range(6))
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (6, 12)
        pieces = list(client.completions.create(**arguments, stream=True, stream_options={"include_usage": True}))
        streamed = [""] * 6
        for piece in pieces:
            for choice in piece.choices:
                streamed[choice.index] += choice.text
        assert streamed == [choice.text for choice in whole.choices]
        assert pieces[-1].usage == whole.usage
        with pytest.raises(official.BadRequestError, match="64 answers"):
            client.completions.create(**{**arguments, "prompt": ["x"] * 32, "n": 3})


def test_a_conversation_with_calls_and_results_goes_on(tmp_path: Path) -> None:
    speaker = Speaker()
    with openai(application(tmp_path, model=speaker)) as client:
        call: Any = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
        messages: Any = [
            MESSAGES[1],
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "3"}]},
        ]
        client.chat.completions.create(model="model", messages=messages)
        assert [message.role for message in speaker.asked[0].messages] == ["user", "assistant", "user"]
        assert speaker.asked[0].messages[1].content == '{"name": "add", "arguments": {}}'
        assert speaker.asked[0].messages[2].content.endswith("\n3")


def test_what_is_about_a_clients_own_books_is_accepted(tmp_path: Path) -> None:
    speaker = Speaker()
    with openai(application(tmp_path, model=speaker)) as client:
        fields: dict[str, Any] = {
            "metadata": {"project": "x"},
            "store": True,
            "service_tier": "auto",
            "user": "somebody",
            "safety_identifier": "somebody",
            "prompt_cache_key": "x",
            "prompt_cache_retention": "24h",
            "parallel_tool_calls": True,
            "modalities": ["text"],
            "logit_bias": {},
        }
        messages: Any = [{"role": "developer", "content": "Be brief."}, MESSAGES[1]]
        arguments: Any = {"model": "model", "messages": messages, "tools": [ADD], "max_completion_tokens": 9, **fields}
        assert client.chat.completions.create(**arguments).choices[0].message.content == "one two three"
        shown = {"include_usage": True, "include_obfuscation": False}
        pieces = list(client.chat.completions.create(**arguments, stream=True, stream_options=shown))
        assert pieces[-1].usage is not None
        assert {request.messages[0].role for request in speaker.asked} == {"system"}


def test_an_answer_goes_back_as_a_message_however_the_client_was_asked_for_it(tmp_path: Path) -> None:
    speaker = Speaker(
        lambda request: '{"name": "add", "arguments": {"a": 1, "b": 2}}' if len(speaker.asked) <= 3 else "3"
    )
    strict: Any = {**ADD, "function": {**ADD["function"], "strict": True}}
    with openai(application(tmp_path, model=speaker)) as client:
        arguments: Any = {"model": "model", "tools": [strict]}
        created = client.chat.completions.create(messages=MESSAGES, **arguments)
        parsed = client.chat.completions.parse(messages=MESSAGES, **arguments)
        with client.chat.completions.stream(messages=MESSAGES, **arguments) as stream:
            streamed = stream.get_final_completion()
        for whole in (created, parsed, streamed):
            message = whole.choices[0].message
            assert message.tool_calls is not None
            result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "name": "add", "content": "3"}
            for sent in (message, message.model_dump()):
                conversation: Any = [*MESSAGES, sent, result]
                last = client.chat.completions.create(messages=conversation, **arguments).choices[0].message
                assert last.content == "3"
                again: Any = [*conversation, last, MESSAGES[1]]
                client.chat.completions.create(messages=again, **arguments)
                assert [turn.role for turn in speaker.asked[-1].messages[-3:]] == ["user", "assistant", "user"]


def test_several_answers_have_seeds_of_their_own_and_a_seed_repeats_them(tmp_path: Path) -> None:
    speaker = Speaker(lambda request: str(request.seed))
    with openai(application(tmp_path, model=speaker)) as client:
        arguments: Any = {"model": "model", "messages": MESSAGES, "n": 3, "seed": 5}
        first, again = (client.chat.completions.create(**arguments) for _ in range(2))
        texts = [choice.message.content for choice in first.choices]
        assert texts[0] == "5"
        assert len(set(texts)) == 3
        assert texts == [choice.message.content for choice in again.choices]
        streamed = ["", "", ""]
        for piece in client.chat.completions.create(**arguments, stream=True):
            for choice in piece.choices:
                streamed[choice.index] += choice.delta.content or ""
        assert streamed == texts


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("unknown_model", official.NotFoundError, "model_not_found"),
        ("refused", official.BadRequestError, "refused"),
        ("too_long", official.BadRequestError, "context_length_exceeded"),
        ("busy", official.RateLimitError, "busy"),
        ("timeout", official.InternalServerError, "timeout"),
        ("unavailable", official.InternalServerError, "unavailable"),
    ],
)
def test_failures_are_the_clients_own_errors(tmp_path: Path, kind: Any, error: Any, code: str) -> None:
    with openai(application(tmp_path, model=Failing(Failure(kind, "because", 7.0)))) as client:
        for stream in (False, True):
            with pytest.raises(error, match="because") as raised:
                client.chat.completions.create(model="model", messages=MESSAGES, stream=stream)
            assert raised.value.code == code
            pause = raised.value.response.headers.get("retry-after")
            assert (pause is not None) == (kind in {"busy", "timeout", "unavailable"})


def test_a_failure_in_the_middle_of_a_stream_is_raised_there(tmp_path: Path) -> None:
    with openai(application(tmp_path, model=Failing(Failure("unavailable", "it went away"), words=2))) as client:
        pieces = client.chat.completions.create(model="model", messages=MESSAGES, stream=True)
        seen = [next(pieces), next(pieces)]
        assert [piece.choices[0].delta.content for piece in seen] == ["word ", "word "]
        with pytest.raises(official.APIError, match="it went away"):
            next(pieces)


class Faulty(Speaker):
    """A model whose code breaks after a word."""

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        yield Delta("word ")
        raise ZeroDivisionError("/secret")


def test_a_fault_in_the_middle_of_a_stream_is_an_error_that_tells_nothing_of_it(tmp_path: Path) -> None:
    with openai(application(tmp_path, model=Faulty())) as client:
        pieces = client.chat.completions.create(model="model", messages=MESSAGES, stream=True)
        assert next(pieces).choices[0].delta.content == "word "
        with pytest.raises(official.APIError, match="the endpoint met a fault"):
            next(pieces)


def test_a_model_that_is_not_served_is_not_found(tmp_path: Path) -> None:
    with openai(application(tmp_path, parrot=Speaker())) as client:
        for name in ("no-such", "models:/secret@champion", "/etc/passwd", "https://example.org/model"):
            with pytest.raises(official.NotFoundError):
                client.chat.completions.create(model=name, messages=MESSAGES)
            with pytest.raises(official.NotFoundError, match="parrot"):
                client.models.retrieve(name)


@pytest.mark.parametrize("words", [0, 2])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_stops_its_generation(tmp_path: Path, words: int, stream: bool) -> None:
    model = Endless(words)
    body = json.dumps({"model": "model", "messages": [{"role": "user", "content": "x"}], "stream": stream})
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with openai(application(tmp_path, model=model)) as client:
        host, port = client.base_url.host, client.base_url.port
        assert port is not None
        with socket.create_connection((host, port)) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            assert model.begun.wait(10)
            assert not model.ended.is_set()
        assert model.ended.wait(10)
