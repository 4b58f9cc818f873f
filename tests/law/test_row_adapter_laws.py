"""What a row with an adapter may rely on, and what the rows beside it may."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from steerline.config.steering import SteeringSpec
from steerline.inference.backends.adapted import AdaptedBackend
from steerline.inference.backends.local import LocalBackend
from steerline.inference.request import GenRequest, GenResult
from steerline.models.adapter import obstacle, read_adapter
from tests.adapters import merged, save_adapter
from tests.law.test_inference_laws import BOOSTED, PLAIN, clear_part, requests, served
from tests.tiny import tiny_model
from tests.unit.inference.tiny_backend import SHARED, complete

KINDS: list[dict[str, Any]] = [
    {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    {"r": 8, "lora_alpha": 16, "use_rslora": True},
    {
        "r": 2,
        "target_modules": ["k_proj", "gate_proj", "down_proj"],
        "rank_pattern": {"layers.1.self_attn.k_proj": 5, "down_proj": 3},
        "alpha_pattern": {"gate_proj": 1, "layers.0.mlp.down_proj": 20},
    },
]


def adapted(base: LocalBackend, family: str, folder: Path, dtype: torch.dtype) -> AdaptedBackend:
    assert obstacle(folder, tiny_model(family)) is None
    return AdaptedBackend(base, read_adapter(folder, tiny_model(family), dtype, torch.device("cpu")))


async def together(
    backends: Sequence[LocalBackend | AdaptedBackend], asked: Sequence[list[GenRequest]]
) -> list[list[GenResult]]:
    return await asyncio.gather(*(one.generate(own) for one, own in zip(backends, asked, strict=True)))


def folders(family: str, path: Path, kinds: Sequence[dict[str, Any]]) -> list[Path]:
    return [save_adapter(tiny_model(family), path / str(n), seed=n, **kind) for n, kind in enumerate(kinds)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_one_batch_say_what_the_merged_model_of_each_says(dtype: torch.dtype, tmp_path: Path) -> None:
    dice = random.Random(1)
    exact = dtype == torch.float64
    steerings: list[SteeringSpec | None] = [*PLAIN, *BOOSTED] if exact else list(PLAIN)
    saved = folders("llama", tmp_path, KINDS)
    base = served(tiny_model("llama", dtype=dtype), max_batch=16)
    asked = [requests(dice, 6, steerings) for _ in range(1 + len(saved))]
    models = [tiny_model("llama", dtype=dtype), *(merged(tiny_model("llama", dtype=dtype), one) for one in saved)]
    alone = [
        [asyncio.run(served(model).generate([one]))[0] for one in own] for model, own in zip(models, asked, strict=True)
    ]
    found = asyncio.run(together([base, *(adapted(base, "llama", one, dtype) for one in saved)], asked))
    for results, by_themselves in zip(found, alone, strict=True):
        for result, by_itself in zip(results, by_themselves, strict=True):
            clear = [one.token for one in by_itself.logprobs] if exact else clear_part(by_itself)
            assert [one.token for one in result.logprobs][: len(clear)] == clear
    plain = asyncio.run(served(models[0]).generate(asked[1]))
    assert [one.text for one in plain] != [one.text for one in alone[1]]


@pytest.mark.parametrize("family", ["gpt2", "opt", "phi3", "gemma3"])
def test_adapters_act_beside_each_other_in_models_of_other_shapes(family: str, tmp_path: Path) -> None:
    saved = folders(family, tmp_path, [{"r": 4}, {"r": 2}])
    base = served(tiny_model(family, dtype=torch.float64))
    asked = requests(random.Random(2), 4, list(PLAIN))
    wanted = [
        asyncio.run(served(merged(tiny_model(family, dtype=torch.float64), one)).generate(asked)) for one in saved
    ]
    backends = [base, *(adapted(base, family, one, torch.float64) for one in saved)]
    plain, *found = asyncio.run(together(backends, [asked] * len(backends)))
    for own, alone in zip(found, wanted, strict=True):
        assert [one.text for one in own] == [one.text for one in alone] != [one.text for one in plain]


def test_rows_without_an_adapter_keep_their_bits_beside_those_that_have_one(tmp_path: Path) -> None:
    (saved,) = folders("llama", tmp_path, KINDS[1:2])
    mine = [complete(f"{word} is what I say", top_logprobs=2) for word in ("salt", "bread", "night")]
    alone = asyncio.run(served(tiny_model("llama")).generate([*mine, *mine]))[:3]
    base = served(tiny_model("llama"))
    beside, _ = asyncio.run(together([base, adapted(base, "llama", saved, torch.float32)], [mine, mine]))
    assert [one.logprobs for one in beside] == [one.logprobs for one in alone]


def test_beginnings_are_shared_under_one_adapter_and_not_across(tmp_path: Path) -> None:
    saved = folders("llama", tmp_path, KINDS[:2])
    base = served(tiny_model("llama", dtype=torch.float64))
    first, second = (adapted(base, "llama", one, torch.float64) for one in saved)
    asked = [complete(SHARED + "You are Ann.")]

    async def in_turn() -> list[int]:
        order = (base, first, second, first, base)
        return [(await one.generate(asked))[0].usage.cached_tokens for one in order]

    cached = asyncio.run(in_turn())
    assert cached[:3] == [0, 0, 0]
    assert min(cached[3:]) > 0
