from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from steerline.config.inference import BackendSpec, NoisyBackendSpec, SamplingSpec
from steerline.inference.backends.noisy import NoisyBackend
from steerline.inference.backends.open import open_backend
from steerline.inference.backends.openai import OpenAIBackend
from steerline.inference.backends.scripted import ScriptedBackend
from steerline.inference.client import InferenceClient
from steerline.inference.request import Delta, GenRequest, GenResult, StreamingBackend
from tests.unit.inference.virtual import run

WARM = SamplingSpec(temperature=1.0)
REQUESTS = [GenRequest("m", prompt="Which?", sampling=WARM, seed=n) for n in range(2000)]


def results(backend: StreamingBackend, requests: list[GenRequest]) -> list[GenResult]:
    return asyncio.run(backend.generate(requests))


def noisy(**fields: object) -> NoisyBackend:
    return NoisyBackend(NoisyBackendSpec.model_validate({"kind": "noisy", **fields}))


def test_a_policy_speaks_and_keeps_to_length_and_stop_texts() -> None:
    backend = ScriptedBackend(lambda request: f"{request.prompt} one two\nthree")
    asked = [GenRequest("m", prompt="zero", sampling=SamplingSpec(max_tokens=2))]
    asked.append(GenRequest("m", prompt="zero", sampling=SamplingSpec(stop=("\n", "three"))))
    cut, stopped = results(backend, asked)
    assert (cut.text, cut.finish_reason, cut.usage.completion_tokens) == ("zero one", "length", 2)
    assert (stopped.text, stopped.finish_reason) == ("zero one two", "stop")


def test_faults_come_at_their_rates() -> None:
    answers = results(noisy(error_rate=0.2, garble_rate=0.25), REQUESTS)
    failed = sum(answer.failure is not None for answer in answers)
    garbled = sum(answer.failure is None and answer.text not in {"yes", "no"} for answer in answers)
    assert abs(failed / 2000 - 0.2) < 0.03
    assert abs(garbled / (2000 - failed) - 0.25) < 0.035
    picked = Counter(answer.text for answer in results(noisy(), REQUESTS))
    assert picked.keys() == {"yes", "no"}
    assert abs(picked["yes"] - 1000) < 75


def test_a_fault_belongs_to_its_request_whatever_the_batch_and_order() -> None:
    spec = {"error_rate": 0.3, "garble_rate": 0.3}
    together = results(noisy(**spec), REQUESTS[:50])
    assert results(noisy(**spec), REQUESTS[49::-1]) == together[::-1]
    assert results(noisy(**spec, seed=1), REQUESTS[:50]) != together


def test_who_asks_changes_nothing() -> None:
    asked = [replace(REQUESTS[0], call=f"{n}/a/0", simulation=str(n)) for n in range(20)]
    assert len(set(results(noisy(), asked))) == 1


def test_another_attempt_draws_its_failure_again_and_keeps_its_text() -> None:
    requests = [replace(REQUESTS[0], attempt=n) for n in range(60)]
    answers = results(noisy(error_rate=0.5), requests)
    assert 15 < sum(answer.failure is not None for answer in answers) < 45
    assert len({answer.text for answer in answers if answer.failure is None}) == 1


def test_the_client_gets_past_failures() -> None:
    async def main() -> list[GenResult]:
        async with InferenceClient({"m": noisy(error_rate=0.5)}) as client:
            with client.caller() as me:
                return await me.ask_all(REQUESTS[:8])

    answers = run(main)
    assert [answer.failure for answer in answers] == [None] * 8


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"kind": "noisy"}, NoisyBackend),
        ({"kind": "openai", "url": "http://127.0.0.1:1/v1", "model": "m"}, OpenAIBackend),
    ],
)
def test_a_spec_opens_its_backend(spec: dict[str, str], kind: type) -> None:
    assert isinstance(open_backend(TypeAdapter(BackendSpec).validate_python(spec)), kind)


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "openai", "url": "file:///etc/passwd", "model": "m"},
        {"kind": "openai", "url": "http://a", "model": "m", "key_env": "A", "key_file": "b"},
        {"kind": "openai", "url": "http://a", "model": "m", "key": "sk-1"},
        {"kind": "noisy", "error_rate": 1.5},
        {"kind": "local", "model": {"source": {"kind": "random", "architecture": "llama"}}, "device": "tpu"},
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        TypeAdapter(BackendSpec).validate_python(spec)


@pytest.mark.parametrize(
    "backend",
    [ScriptedBackend(lambda _: " one  two\nthree "), ScriptedBackend(lambda _: ""), noisy(), noisy(error_rate=1.0)],
)
def test_a_stream_has_the_words_of_the_answer_and_then_the_answer(backend: StreamingBackend) -> None:
    async def main() -> list[Delta]:
        return [piece async for piece in backend.stream(REQUESTS[0])]

    *words, last = asyncio.run(main())
    assert last.result == results(backend, [REQUESTS[0]])[0]
    assert "".join(word.text for word in words) == last.result.text
    assert all(word.text.strip() or word.text == " " for word in words)
