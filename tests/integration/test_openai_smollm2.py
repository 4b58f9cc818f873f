"""OpenAI's client and the real SmolLM2, with an engine of its own behind a server that listens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel

from steerline.config.serving import ServingSpec
from steerline.serving.models import ServedModels
from tests.unit.services.openai_service import application, openai

pytestmark = [pytest.mark.integration, pytest.mark.packaged, pytest.mark.slow]

MODELS: Any = {"smollm2": {"kind": "local", "model": {"source": {"kind": "packaged", "name": "smollm2-135m-instruct"}}}}
RULES = "You are one of four players. Each round you give a part of your 20 coins to the pot. " * 3
MESSAGES: Any = [{"role": "system", "content": RULES}, {"role": "user", "content": "Name the capital of France."}]
PAINT: Any = {
    "type": "function",
    "function": {
        "name": "paint",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "blue"]}, "times": {"type": "integer"}},
            "required": ["colour", "times"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    name: str
    is_capital: bool


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    spec = ServingSpec.model_validate({"models": MODELS, "tracking": None})
    served = ServedModels(spec)
    app = application(tmp_path_factory.mktemp("smollm2"), {"models": MODELS}, inference=served)
    with openai(app) as found:
        yield found


def ask(client: OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "smollm2", "messages": MESSAGES, "temperature": 0, "max_tokens": 12, **more}
    )


def test_a_stream_is_the_whole_answer_and_a_strength_of_0_the_plain_model(client: OpenAI) -> None:
    whole = ask(client)
    text = whole.choices[0].message.content
    assert "Paris" in text
    assert whole.system_fingerprint.startswith("fp_")
    streamed = [piece.choices[0].delta.content or "" for piece in ask(client, stream=True)]
    assert len(streamed) > 3
    assert "".join(streamed) == text
    assert ask(client, extra_body={"steering": 0}).choices[0].message.content == text
    boost = {"strength": 1.0, "fraction": 0.2, "scale": 8.0, "select": "magnitude", "mean": "abs"}
    assert ask(client, extra_body={"steering": {"boost": boost}}).choices[0].message.content != text


def test_what_prompts_share_is_computed_once(client: OpenAI) -> None:
    ask(client)
    again = ask(client, messages=[MESSAGES[0], {"role": "user", "content": "What is 2 + 2?"}])
    assert again.usage.prompt_tokens_details.cached_tokens > 40


def test_answers_and_calls_keep_their_schemas(client: OpenAI) -> None:
    parsed = client.chat.completions.parse(
        model="smollm2", messages=MESSAGES, temperature=0, max_tokens=60, response_format=City
    )
    assert isinstance(parsed.choices[0].message.parsed, City)
    called = ask(client, tools=[PAINT], tool_choice="required", max_tokens=60).choices[0]
    assert called.finish_reason == "tool_calls"
    arguments = json.loads(called.message.tool_calls[0].function.arguments)
    assert arguments["colour"] in ("red", "blue")
    assert isinstance(arguments["times"], int)


def test_log_probabilities_are_those_of_the_likeliest_tokens(client: OpenAI) -> None:
    choice = ask(client, logprobs=True, top_logprobs=2).choices[0]
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens).startswith(choice.message.content)
    assert all(token.top_logprobs[0].token == token.token for token in tokens)
    assert all(token.logprob <= 0 for token in tokens)


def test_several_answers_are_written_at_once_and_a_seed_repeats_them(client: OpenAI) -> None:
    first, again = (ask(client, n=3, seed=1, temperature=1.0) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert len(set(texts)) > 1
    assert texts == [choice.message.content for choice in again.choices]


def test_a_text_is_continued_up_to_a_stop_text(client: OpenAI) -> None:
    text = client.completions.create(
        model="smollm2", prompt="One, two, three,", temperature=0, max_tokens=20, stop=["five"]
    ).choices[0]
    assert text.finish_reason == "stop"
    assert "four" in text.text
    assert "five" not in text.text
