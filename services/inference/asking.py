"""What chats and completions have in common: from a request's fields to the continuations that are asked for."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from services.http.errors import ApiError
from services.inference.requests import ChatCompletionRequest, CompletionRequest
from services.inference.responses import CachedTokens, UsedTokens
from steerline.config.inference import SamplingSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.inference.request import GenRequest, GenResult, Usage

_SEED_BITS = 31


@dataclass(frozen=True, slots=True)
class Head:
    """What stands in every piece of an answer."""

    id: str
    created: int
    model: str
    fingerprint: str | None

    @classmethod
    def new(cls, kind: str, model: str, fingerprint: str | None) -> Head:
        """Of an answer that begins now; `kind` is the beginning of its id."""
        return cls(f"{kind}-{uuid.uuid4().hex}", int(time.time()), model, fingerprint)


def sampling_of(body: ChatCompletionRequest | CompletionRequest, tokens: int | None, most: int) -> SamplingSpec:
    """How the continuations are drawn.

    Args:
        body: the request.
        tokens: the longest continuation that it asks for, or the endpoint's default.
        most: the longest that the endpoint writes, and what none stands for.

    Raises:
        ApiError: 400; it asks for more.
    """
    if tokens is not None and tokens > most:
        named = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
        raise ApiError(
            400, "invalid_request", f"a continuation has at most {most} tokens here; got: {tokens}", param=named
        )
    stop = body.stop
    return SamplingSpec(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        max_tokens=most if tokens is None else tokens,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
    )


def tokens_of(body: ChatCompletionRequest) -> int | None:
    """The longest answer that a chat asks for, by whichever name.

    Raises:
        ApiError: 400; its two names disagree.
    """
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise ApiError(
            400,
            "invalid_request",
            f"two names of one limit disagree; got: {old} and {new}; fix: leave out max_tokens",
            param="max_completion_tokens",
        )
    return old if new is None else new


def seeds_of(body: ChatCompletionRequest | CompletionRequest) -> Sequence[int]:
    """A seed for each answer; the first is the request's own."""
    seed = secrets.randbits(_SEED_BITS) if body.seed is None else body.seed
    return [seed, *(_further(seed, index) for index in range(1, body.n or 1))]


def steering_of(body: ChatCompletionRequest | CompletionRequest) -> SteeringSpec | None:
    """What acts inside the model. A number is a strength of the paper's boost."""
    steering = body.steering
    if steering is None or isinstance(steering, SteeringSpec):
        return steering
    return SteeringSpec(boost=BoostSpec(strength=steering)) if steering > 0 else None


def used(requests: Sequence[GenRequest], results: Sequence[GenResult]) -> Usage:
    """The tokens of a request's answers. A prompt counts once, however many answers it has."""
    prompts: dict[tuple[str, ...], Usage] = {}
    for request, result in zip(requests, results, strict=True):
        known = prompts.get(request.prefix, Usage())
        prompts[request.prefix] = max(known, result.usage, key=lambda usage: usage.prompt_tokens)
    prompt = sum(prompts.values(), Usage())
    completion = sum(result.usage.completion_tokens for result in results)
    return Usage(prompt.prompt_tokens, completion, prompt.cached_tokens)


def reported(usage: Usage) -> UsedTokens:
    """Tokens in the API's form."""
    return UsedTokens(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=CachedTokens(cached_tokens=usage.cached_tokens),
    )


def _further(seed: int, index: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> (32 - _SEED_BITS)
