"""A local backend on a tiny random model, in float64: there a row does not feel the rounding of its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from steerline.config.inference import LocalBackendSpec, SamplingSpec
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.inference.backends.local import LocalBackend
from steerline.inference.request import GenRequest, GenResult
from steerline.models.load import LoadedModel
from tests.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
SHARED = "You are one of four players in a game about public goods. "


def backend(family: str = "llama", model: PreTrainedModel | None = None, **limits: Any) -> LocalBackend:
    spec = LocalBackendSpec.model_validate({"model": {"source": {"kind": "random", "architecture": family}}, **limits})
    return LocalBackend(LoadedModel(model or tiny_model(family, dtype=torch.float64), TOKENIZER), spec)


def generate(local: LocalBackend, requests: Sequence[GenRequest]) -> list[GenResult]:
    return asyncio.run(local.generate(requests))


def texts(local: LocalBackend, requests: Sequence[GenRequest]) -> list[str]:
    results = generate(local, requests)
    assert all(result.failure is None for result in results)
    return [result.text for result in results]


def complete(prompt: str, max_tokens: int = 8, **fields: Any) -> GenRequest:
    sampling = SamplingSpec(max_tokens=max_tokens, **fields.pop("sampling", {}))
    return GenRequest("m", prompt=prompt, sampling=sampling, **fields)


def boosted(strength: float, **fields: Any) -> SteeringSpec:
    return SteeringSpec(boost=BoostSpec(strength=strength, fraction=0.5, scale=3.0, **fields))


def scaled(strength: float, betas: float = 0.3) -> SteeringSpec:
    return SteeringSpec(residual_scale=ResidualScaleSpec(betas=betas, strength=strength))


def by_hand(model: PreTrainedModel, request: GenRequest) -> str:
    """Argmax, one token a full forward pass, no padding, no cache, no neighbours."""
    ids = TOKENIZER(request.prompt)["input_ids"]
    new: list[int] = []
    while len(new) < request.sampling.max_tokens:
        with torch.no_grad():
            token = int(model(torch.tensor([ids + new])).logits[0, -1].argmax())
        if token == TOKENIZER.eos_token_id:
            break
        new.append(token)
    return str(TOKENIZER.decode(new, skip_special_tokens=True))
