"""The local backend on the real SmolLM2: agents with and without steering in one batch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from steerline.config.inference import LocalBackendSpec, SamplingSpec
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.inference.backends.local import LocalBackend
from steerline.inference.client import InferenceClient
from steerline.inference.request import ChatMessage, GenRequest, GenResult
from steerline.models.load import LoadedModel, load_model

pytestmark = [pytest.mark.packaged, pytest.mark.slow]

SPEC = LocalBackendSpec.model_validate(
    {"kind": "local", "model": {"source": {"kind": "packaged", "name": "smollm2-135m-instruct"}}}
)
RULES = "You are one of four players. Each round you give a part of your 20 coins to the pot. " * 3
QUESTIONS = ["What is 7 + 5?", "How much do you give?", "Name the capital of France.", "Why do people share?"]


@pytest.fixture(scope="module")
def smollm2() -> LoadedModel:
    """The backends'."""
    return load_model(SPEC.model, dtype=torch.float32)


@pytest.fixture(scope="module")
def plain() -> LoadedModel:
    """As it was loaded."""
    return load_model(SPEC.model, dtype=torch.float32)


@pytest.fixture
def backend(smollm2: LoadedModel) -> Iterator[LocalBackend]:
    local = LocalBackend(smollm2, SPEC)
    yield local
    asyncio.run(local.close())


def question(text: str, rules: str = "", strength: float | None = None, **fields: Any) -> GenRequest:
    boost = None if strength is None else BoostSpec(strength=strength, fraction=0.1, select="magnitude", mean="abs")
    steering = None if boost is None else SteeringSpec(boost=boost)
    messages = ([ChatMessage("system", rules)] if rules else []) + [ChatMessage("user", text)]
    return GenRequest("m", tuple(messages), **{"sampling": SamplingSpec(max_tokens=12), "steering": steering, **fields})


def answers(backend: LocalBackend, requests: list[GenRequest]) -> list[GenResult]:
    return asyncio.run(backend.generate(requests))


def greedy(plain: LoadedModel, request: GenRequest) -> str:
    """What Transformers' own generation writes, one prompt at a time."""
    tokenizer = plain.tokenizer
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    config = GenerationConfig(
        do_sample=False, max_new_tokens=request.sampling.max_tokens, eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )
    out = plain.model.generate(**ids, generation_config=config)
    return str(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("rules", ["", RULES])
def test_rows_of_strength_0_say_what_the_plain_model_says_beside_steered_rows(
    plain: LoadedModel, backend: LocalBackend, rules: str
) -> None:
    requests = [question(text, rules, strength) for text in QUESTIONS for strength in (None, 0.0, 1.0)]
    said = [result.text for result in answers(backend, requests)]
    wanted = [greedy(plain, question(text, rules)) for text in QUESTIONS]
    assert said[0::3] == wanted
    assert said[1::3] == wanted
    assert said[2::3] != wanted


def test_neighbours_do_not_matter(backend: LocalBackend) -> None:
    # Boosted rows have no such law in float32: rounding may swap two keys at the edge of the pick. In float64 they do,
    # see tests/unit/inference/test_local.py.
    scale = SteeringSpec(residual_scale=ResidualScaleSpec(betas=0.5, layers=(10, 20)))
    warm = SamplingSpec(temperature=0.8, top_p=0.95, max_tokens=12)
    requests = [
        *(question(text, strength=0.0) for text in QUESTIONS),
        question(QUESTIONS[3], steering=scale),
        *(question(QUESTIONS[3], sampling=warm, seed=seed) for seed in range(3)),
        question("Count from one to twenty.", sampling=SamplingSpec(max_tokens=12, stop=("3",))),
    ]
    boosted = [question(text, strength=1.0) for text in QUESTIONS]
    together = [result.text for result in answers(backend, [*requests, *boosted])][: len(requests)]
    apart = {
        n: result.text
        for half in (0, 1)
        for n, result in zip(range(half, len(requests), 2), answers(backend, requests[half::2]), strict=True)
    }
    assert [apart[n] for n in range(len(requests))] == together
    assert len(set(together)) == len(together)


def test_turns_of_agents_reuse_the_rules_that_they_share(smollm2: LoadedModel) -> None:
    async def main() -> list[GenResult]:
        async with InferenceClient({"m": LocalBackend(smollm2, SPEC)}) as client:
            with client.caller() as me:
                await me.ask_all([question(text, RULES) for text in QUESTIONS])
                return await me.ask_all([question(text, RULES) for text in QUESTIONS[::-1]])

    for result in asyncio.run(main()):
        assert result.usage.cached_tokens > 60
        assert result.usage.cached_tokens >= result.usage.prompt_tokens - 30


def test_rows_that_join_and_leave_a_running_batch_say_what_they_say_alone(
    plain: LoadedModel, backend: LocalBackend
) -> None:
    dice = random.Random(0)
    asked = [
        question(
            dice.choice(QUESTIONS), dice.choice(["", RULES]), sampling=SamplingSpec(max_tokens=dice.randrange(2, 12))
        )
        for _ in range(10)
    ]
    wanted = {request.address: greedy(plain, request) for request in asked}

    async def main() -> list[str]:
        async def ask(request: GenRequest) -> str:
            for _ in range(dice.randrange(200)):
                await asyncio.sleep(0)
            return "".join([piece.text async for piece in backend.stream(request)])

        steered = asyncio.gather(*(ask(question(text, strength=1.0)) for text in QUESTIONS))
        said = await asyncio.gather(*map(ask, asked))
        await steered
        return list(said)

    assert asyncio.run(main()) == [wanted[request.address] for request in asked]


def test_half_precision_goes_on_as_the_model_does_in_it() -> None:
    half = LocalBackend.load(SPEC.model_copy(update={"dtype": "bfloat16"}))
    (result,) = answers(LocalBackend(half, SPEC), [question(QUESTIONS[2])])
    assert "Paris" in result.text
