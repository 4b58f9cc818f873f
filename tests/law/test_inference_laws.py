"""What a row of the running batch may rely on, whoever its neighbours are."""

from __future__ import annotations

import asyncio
import random

import pytest
import torch
from transformers import PreTrainedModel

from steerline.config.inference import LocalBackendSpec, SamplingSpec
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.inference.backends.local import LocalBackend
from steerline.inference.request import GenRequest, GenResult
from steerline.models.load import LoadedModel
from tests.tiny import tiny_model, tiny_tokenizer

CLEAR = 1e-4  # by this much the best logit must lead, for the law to hold in float32
WORDS = [
    "the",
    "sea",
    "is",
    "wide",
    "and",
    "old",
    "ships",
    "go",
    "home",
    "at",
    "night",
    "with",
    "salt",
    "and",
    "bread",
    "for",
    "all",
]
PLAIN = [
    None,
    SteeringSpec(boost=BoostSpec(strength=0.0)),
    SteeringSpec(residual_scale=ResidualScaleSpec(betas=0.5, strength=0.7)),
]
BOOSTED = [
    SteeringSpec(boost=BoostSpec(strength=strength, fraction=0.3, scale=2.0, select=select))
    for strength in (0.3, 1.0)
    for select in ("value", "magnitude")
]


def served(model: PreTrainedModel, **limits: int) -> LocalBackend:
    source = {"kind": "random", "architecture": "llama"}
    spec = LocalBackendSpec.model_validate({"model": {"source": source}, **limits})
    return LocalBackend(LoadedModel(model, tiny_tokenizer()), spec)


def requests(dice: random.Random, count: int, steerings: list[SteeringSpec | None]) -> list[GenRequest]:
    beginning = " ".join(WORDS[:12])
    return [
        GenRequest(
            "m",
            prompt=f"{beginning if dice.random() < 0.5 else dice.choice(WORDS)} {' '.join(dice.choices(WORDS, k=3))}",
            sampling=SamplingSpec(max_tokens=dice.randrange(2, 14)),
            steering=dice.choice(steerings),
            top_logprobs=2,
        )
        for _ in range(count)
    ]


def clear_part(result: GenResult) -> list[str]:
    """The tokens up to the first place where two were nearly as good."""
    clear = []
    for token in result.logprobs:
        (_, best), (_, second) = token.top
        if best - second < CLEAR:
            break
        clear.append(token.token)
    return clear


async def arriving(local: LocalBackend, asked: list[GenRequest], dice: random.Random) -> list[GenResult]:
    async def ask(request: GenRequest) -> GenResult:
        for _ in range(dice.randrange(80)):
            await asyncio.sleep(0)
        return (await local.generate([request]))[0]

    return await asyncio.gather(*map(ask, asked))


@pytest.mark.parametrize("seed", range(3))
def test_float32_rows_say_the_same_whatever_joins_and_leaves_where_the_model_is_clear(seed: int) -> None:
    dice = random.Random(seed)
    model = tiny_model("llama")
    mine = requests(dice, 8, PLAIN)
    others = requests(dice, 16, [*PLAIN, *BOOSTED])
    alone = [asyncio.run(served(model).generate([request]))[0] for request in mine]
    for limits in ({"max_batch": 4}, {"max_batch": 32, "max_batch_tokens": 512}):
        together = asyncio.run(arriving(served(model, **limits), [*mine, *others], dice))
        for result, by_itself in zip(together, alone, strict=False):
            clear = clear_part(by_itself)
            assert [token.token for token in result.logprobs][: len(clear)] == clear


@pytest.mark.parametrize("seed", range(2))
def test_boosted_rows_say_the_same_in_float64(seed: int) -> None:
    dice = random.Random(seed)
    model = tiny_model("llama", dtype=torch.float64)
    asked = requests(dice, 16, [*PLAIN, *BOOSTED])
    alone = [asyncio.run(served(model).generate([request]))[0] for request in asked]
    together = asyncio.run(arriving(served(model, max_batch=5), asked, dice))
    assert [result.text for result in together] == [result.text for result in alone]
