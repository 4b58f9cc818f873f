"""Clients of a text service: as many as there are, or as they come; and a service of static batches to hold against."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from steerline.inference.backends.local import LocalBackend
from steerline.inference.request import GenRequest

Serve = Callable[[GenRequest], Awaitable[int]]
"""Answers one request and returns the number of its new tokens."""
BATCH = 16


@dataclass(frozen=True)
class Load:
    """What clients saw."""

    tokens_per_s: float
    latencies_s: list[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.latencies_s)

    @property
    def p95(self) -> float:
        return sorted(self.latencies_s)[int(0.95 * (len(self.latencies_s) - 1))]


async def timed(serve: Serve, request: GenRequest, seen: list[tuple[float, int]]) -> None:
    started = time.perf_counter()
    tokens = await serve(request)
    seen.append((time.perf_counter() - started, tokens))


async def closed_loop(serve: Serve, requests: Sequence[GenRequest], clients: int) -> Load:
    """Each client asks again as soon as it has its answer."""
    left = list(requests)[::-1]
    seen: list[tuple[float, int]] = []

    async def client() -> None:
        while left:
            await timed(serve, left.pop(), seen)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return _load(seen, time.perf_counter() - started)


async def open_loop(serve: Serve, requests: Sequence[GenRequest], per_s: float, seed: int) -> Load:
    """Requests come by a Poisson process, whether or not earlier ones have been answered."""
    dice = random.Random(seed)
    seen: list[tuple[float, int]] = []
    started = time.perf_counter()
    due, tasks = started, []
    for request in requests:
        due += dice.expovariate(per_s)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(timed(serve, request, seen)))
    await asyncio.gather(*tasks)
    return _load(seen, time.perf_counter() - started)


def _load(seen: Sequence[tuple[float, int]], seconds: float) -> Load:
    return Load(sum(tokens for _, tokens in seen) / seconds, [latency for latency, _ in seen])


class Continuous:
    """Our backend."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend

    async def __call__(self, request: GenRequest) -> int:
        (result,) = await self._backend.generate([request])
        assert result.failure is None, result.failure
        return result.usage.completion_tokens


class Static:
    """Transformers' `generate` over whatever waits, at most 16 prompts at a time, padded, to the longest one's end."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[GenRequest, asyncio.Future[int]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, request: GenRequest) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve())
        return await answer

    async def _serve(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            requests = [request for request, _ in batch]
            await asyncio.get_running_loop().run_in_executor(self._thread, self.generate, requests)
            for request, answer in batch:
                answer.set_result(request.sampling.max_tokens)

    def generate(self, requests: Sequence[GenRequest]) -> None:
        """One static batch."""
        longest = max(request.sampling.max_tokens for request in requests)
        ids = self._tokenizer([request.prompt for request in requests], return_tensors="pt", padding=True)
        config = GenerationConfig(do_sample=False, max_new_tokens=longest, pad_token_id=0, eos_token_id=None)
        with torch.inference_mode():
            out = self._model.generate(**ids, generation_config=config)
        assert out.shape[1] == ids["input_ids"].shape[1] + longest
