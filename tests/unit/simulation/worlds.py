"""Small simulations, and a model server that knows what it was asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from steerline.config.simulation import SimulationSpec
from steerline.inference.backends.scripted import spoken
from steerline.inference.request import BackendLimits, GenRequest, GenResult
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng

MODEL = {"backend": {"kind": "openai", "url": "http://127.0.0.1:9/v1", "model": "m"}}


def llm(**more: Any) -> dict[str, Any]:
    return {"kind": "llm", "model": "m", "sampling": {"temperature": 0.7}, **more}


def scripted(policy: str) -> dict[str, Any]:
    return {"kind": "scripted", "policy": policy}


def spec(*brains: dict[str, Any] | str, agent: dict[str, Any] | None = None, **changes: Any) -> SimulationSpec:
    """A public goods game of agents a, b, c and so on; a text is a scripted policy."""
    agents = [
        {
            "id": name,
            "brain": scripted(brain) if isinstance(brain, str) else brain,
            **(agent or {}),
        }
        for name, brain in zip("abcdefgh", brains, strict=False)
    ]
    whole = {
        "scenario": "public_goods",
        "params": {"rounds": changes.get("max_ticks", 4), "punishment": changes.pop("punishment", False)},
        "agents": agents,
        "max_ticks": 4,
        "models": {"m": MODEL} if any(isinstance(brain, dict) and "policy" not in brain for brain in brains) else {},
        **changes,
    }
    return SimulationSpec.model_validate(whole)


def drawn(request: GenRequest) -> str:
    """A legal answer that depends on the request alone."""
    rng = CounterRng(request.seed)
    if request.response_schema is not None:
        return "{}"
    return answer(rng.integer(0, 20, "points"), f"I am {request.agent}.")


class Server:
    """Answers in any order and keeps what it was asked.

    Args:
        policy: the text for a request.
        workers: batches at once.
        max_batch: requests of one batch.
        shuffle: seed of how many turns of the event loop each batch takes.
    """

    def __init__(
        self,
        policy: Callable[[GenRequest], str | GenResult] = drawn,
        *,
        workers: int = 1,
        max_batch: int = 64,
        shuffle: int | None = None,
    ) -> None:
        self.limits = BackendLimits(max_batch=max_batch, in_flight=workers)
        self.asked: list[GenRequest] = []
        self._policy = policy
        self._delays = None if shuffle is None else random.Random(shuffle)

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        self.asked += requests
        for _ in range(0 if self._delays is None else self._delays.randrange(8)):
            await asyncio.sleep(0)
        texts = [self._policy(request) for request in requests]
        return [
            text if isinstance(text, GenResult) else spoken(request, text)
            for request, text in zip(requests, texts, strict=True)
        ]

    async def close(self) -> None:
        """Nothing is held."""

    @property
    def places(self) -> list[str]:
        return [request.call for request in self.asked]
