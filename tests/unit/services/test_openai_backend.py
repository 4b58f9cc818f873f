"""One endpoint as the model of another: the library's own client of this interface, against this interface."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from steerline.config.inference import OpenAIBackendSpec, SamplingSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.inference.backends.openai import OpenAIBackend
from steerline.inference.request import ChatMessage, Failure, GenRequest
from tests.unit.services.openai_service import Failing, Speaker, application

STEERING = SteeringSpec(boost=BoostSpec(strength=0.5, layers=(1,)))
SCHEMA = {"type": "object"}


def asking(model: str = "parrot", **more: object) -> GenRequest:
    fields: dict[str, object] = {"sampling": SamplingSpec(temperature=0.5, top_p=0.9, max_tokens=9), "seed": 3, **more}
    return GenRequest(model, (ChatMessage("system", "a"), ChatMessage("user", "one two")), **fields)  # type: ignore[arg-type]


def test_a_request_arrives_as_it_was_asked_and_its_answer_as_it_was_given(tmp_path: Path) -> None:
    async def play() -> None:
        parrot = Speaker()
        app = application(tmp_path, parrot=parrot)
        spec = OpenAIBackendSpec(kind="openai", url="http://localhost/v1", model="parrot", steering=True)
        backend = OpenAIBackend(spec, httpx.ASGITransport(app))
        asked = asking(steering=STEERING, response_schema=SCHEMA, top_logprobs=2)
        prompt = GenRequest("parrot", prompt="one two", sampling=asked.sampling)
        whole, text = await backend.generate([asked, prompt])
        pieces = [delta async for delta in backend.stream(asked)]
        await backend.close()
        first = next(request for request in parrot.asked if request.messages)
        assert (first.messages, first.sampling, first.seed) == (asked.messages, asked.sampling, 3)
        assert (first.steering, first.response_schema, first.top_logprobs) == (STEERING, SCHEMA, 2)
        assert (whole.text, whole.finish_reason, text.text) == ("one two", "stop", "one two")
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.cached_tokens) == (3, 2, 1)
        assert [(token.token, len(token.top)) for token in whole.logprobs] == [("one", 2), (" two", 2)]
        last = pieces[-1].result
        assert last is not None
        assert (last.text, last.usage, last.logprobs) == (whole.text, whole.usage, whole.logprobs)
        assert "".join(piece.text for piece in pieces) == "one two"

    asyncio.run(play())


def test_failures_keep_their_kind_where_the_interface_tells_them_apart(tmp_path: Path) -> None:
    async def play() -> list[str]:
        kinds = []
        for kind in ("busy", "unavailable", "refused", "too_long"):
            app = application(tmp_path, model=Failing(Failure(kind, "because", 3.0)))  # type: ignore[arg-type]
            spec = OpenAIBackendSpec(kind="openai", url="http://localhost/v1", model="model")
            backend = OpenAIBackend(spec, httpx.ASGITransport(app))
            (result,) = await backend.generate([asking()])
            await backend.close()
            assert result.failure is not None
            kinds.append(result.failure.kind)
        return kinds

    # A server that is busy and one that is not there are asked again alike.
    assert asyncio.run(play()) == ["busy", "busy", "refused", "too_long"]
