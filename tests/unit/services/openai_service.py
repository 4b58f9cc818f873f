"""OpenAI's interface in tests: over scripted models, on a port of this machine, with its official client."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from openai import OpenAI

from services.app import web_app
from services.inference.port import Inference
from steerline.inference.request import (
    BackendLimits,
    Delta,
    Failure,
    GenRequest,
    GenResult,
    StreamingBackend,
    TokenLogprob,
    Usage,
)
from steerline.serving.models import ServedModels
from tests.unit.services.simulation_service import listening
from tests.unit.services.stand_in import parts_in

Policy = Callable[[GenRequest], str]
LIMITS = BackendLimits(max_batch=2)


@dataclass
class Speaker:
    """A model whose answer is a function of the request. A word is a token, and each has a log-probability of -0.5."""

    policy: Policy = lambda request: request.prefix[-1]
    asked: list[GenRequest] = field(default_factory=list)
    limits: BackendLimits = LIMITS

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        self.asked += requests
        return [self._result(request) for request in requests]

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        self.asked.append(request)
        result = self._result(request)
        for n, word in enumerate(_words(result.text)):
            yield Delta(word, result.logprobs[n : n + 1])
        yield Delta("", result=result)

    async def close(self) -> None: ...

    def _result(self, request: GenRequest) -> GenResult:
        words = _words(self.policy(request))
        kept = words[: request.sampling.max_tokens]
        top = () if not request.top_logprobs else (("a", -0.5), ("b", -1.5))[: request.top_logprobs]
        logprobs = () if request.top_logprobs is None else tuple(TokenLogprob(word, -0.5, top) for word in kept)
        usage = Usage(sum(len(part.split()) for part in request.prefix), len(kept), 1)
        return GenResult("".join(kept), "stop" if len(kept) == len(words) else "length", usage, logprobs=logprobs)


@dataclass
class Failing:
    """A model that answers so many words, and then fails."""

    failure: Failure
    words: int = 0
    limits: BackendLimits = LIMITS
    usage: Usage = field(default_factory=Usage)

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        return [GenResult.failed(self.failure, usage=self.usage) for _ in requests]

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        for _ in range(self.words):
            yield Delta("word ")
        yield Delta("", result=GenResult.failed(self.failure, usage=self.usage))

    async def close(self) -> None: ...


class Endless:
    """A model that never comes to an end. It says when somebody waits for it, and when nobody does any more."""

    limits = LIMITS

    def __init__(self, words: int = 0) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()
        self._words = words

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        await self._wait()
        return []

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        for _ in range(self._words):
            yield Delta("word ")
        await self._wait()
        yield Delta("")

    async def close(self) -> None: ...

    async def _wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def application(
    folder: Path,
    changes: dict[str, Any] | None = None,
    *,
    inference: Inference | None = None,
    **models: StreamingBackend,
) -> FastAPI:
    parts = parts_in(folder, {"access": {"required": False}, "console": False, **(changes or {})})
    return web_app(replace(parts, inference=inference or ServedModels(parts.spec, backends=models)))


CHATS = "/v1/chat/completions"


def asked(app: FastAPI, *bodies: Any, path: str = CHATS, headers: dict[str, str] | None = None) -> list[httpx.Response]:
    """What the application answers, in this process; a body of bytes goes as it is."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        sent = {"Content-Type": "application/json", **(headers or {})}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=sent) as client:
            contents = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
            return [await client.post(path, content=content) for content in contents]

    return asyncio.run(ask())


@contextmanager
def openai(app: FastAPI) -> Iterator[OpenAI]:
    """The official client of an application that listens."""
    with listening(app) as address, OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as client:
        yield client


def _words(text: str) -> list[str]:
    return [word if n == 0 else " " + word for n, word in enumerate(text.split(" "))] if text else []
