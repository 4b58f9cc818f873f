"""Text from a function: for scripted agents, for tests, and for rehearsing a simulation without a model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence

from steerline.inference.request import BackendLimits, Delta, GenRequest, GenResult, Usage


class ScriptedBackend:
    """A policy's texts, cut at the request's stop texts and at its length, counting words as tokens.

    Args:
        policy: reads what the request's address covers, and not who asks: the client answers equal requests at
            temperature 0 with one text.
        limits: of a call.
    """

    def __init__(self, policy: Callable[[GenRequest], str], limits: BackendLimits | None = None) -> None:
        self._policy = policy
        self._limits = limits or BackendLimits(max_batch=1024)

    @property
    def limits(self) -> BackendLimits:
        """What `generate` takes."""
        return self._limits

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """The policy's text for each request."""
        return [spoken(request, self._policy(request)) for request in requests]

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The policy's text, word by word."""
        async for piece in told(spoken(request, self._policy(request))):
            yield piece

    async def close(self) -> None:
        """Nothing is held."""


async def told(result: GenResult) -> AsyncGenerator[Delta, None]:
    """An answer in pieces of a word each, between which others have their turn; a failure is one piece."""
    for word in re.findall(r"\S*\s*", result.text):
        if word:
            yield Delta(word)
            await asyncio.sleep(0)
    yield Delta("", result.logprobs, result)


def spoken(request: GenRequest, text: str) -> GenResult:
    """A text as the answer to a request: ended by its stop texts and its length, with words counted as tokens."""
    ends = [text.find(stop) for stop in request.sampling.stop if stop in text]
    text = text[: min(ends)] if ends else text
    words = text.split(" ")
    cut = len(words) > request.sampling.max_tokens
    if cut:
        words = words[: request.sampling.max_tokens]
        text = " ".join(words)
    prompt_tokens = sum(len(part.split()) for part in request.prefix)
    return GenResult(text, "length" if cut else "stop", Usage(prompt_tokens, len(words)))
