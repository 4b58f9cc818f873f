"""`/v1/completions`: from its request to continuations, from their results to its answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from services.http.errors import ApiError
from services.inference.asking import Head, reported, sampling_of, seeds_of, steering_of, used
from services.inference.requests import CompletionRequest
from services.inference.responses import Completion, CompletionChoice, CompletionLogprobs, UsedTokens
from steerline.inference.request import Delta, GenRequest, GenResult, TokenLogprob

_DEFAULT_TOKENS = 16
_MOST_ANSWERS = 64


def continuations(body: CompletionRequest, most_tokens: int, share: str) -> Sequence[GenRequest]:
    """The continuations that a request asks for, one for each answer, those of one prompt together.

    Args:
        body: the request.
        most_tokens: longest continuation.
        share: who shares a fair share.

    Raises:
        ApiError: 400; it asks for more tokens, or for too many answers.
    """
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    seeds = seeds_of(body)
    if len(prompts) * len(seeds) > _MOST_ANSWERS:
        message = f"a request has at most {_MOST_ANSWERS} answers; got: {len(prompts)} prompts with {len(seeds)} each"
        raise ApiError(400, "invalid_request", message, param="n")
    tokens = min(_DEFAULT_TOKENS, most_tokens) if body.max_tokens is None else body.max_tokens
    sampling = sampling_of(body, tokens, most_tokens)
    return [
        GenRequest(
            body.model,
            prompt=prompt,
            sampling=sampling,
            seed=seed,
            steering=steering_of(body),
            top_logprobs=body.logprobs,
            simulation=share,
        )
        for prompt in prompts
        for seed in seeds
    ]


def answer(head: Head, requests: Sequence[GenRequest], results: Sequence[GenResult]) -> Completion:
    """The whole answer, of results without failures."""
    choices = [
        CompletionChoice(
            index=index,
            text=result.text,
            finish_reason=_reason(result),
            logprobs=_logprobs(result.logprobs) if request.top_logprobs is not None else None,
        )
        for index, (request, result) in enumerate(zip(requests, results, strict=True))
    ]
    return piece(head, choices, reported(used(requests, results)))


def piece(head: Head, choices: list[CompletionChoice], usage: UsedTokens | None = None) -> Completion:
    """A whole answer, or a piece of a streamed one."""
    return Completion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=choices,
        usage=usage,
        system_fingerprint=head.fingerprint,
    )


class StreamedContinuation:
    """One continuation while it is written."""

    def __init__(self, index: int, request: GenRequest) -> None:
        self._index = index
        self._asked_logprobs = request.top_logprobs is not None
        self._offset = 0

    def pieces(self, delta: Delta) -> list[CompletionChoice]:
        """What this piece of it shows; a failure shows nothing."""
        result = delta.result
        if result is not None and result.failure is not None:
            return []
        if not delta.text and result is None:
            return []
        logprobs = _logprobs(delta.logprobs, self._offset) if self._asked_logprobs else None
        self._offset += len(delta.text)
        reason = None if result is None else _reason(result)
        return [CompletionChoice(index=self._index, text=delta.text, finish_reason=reason, logprobs=logprobs)]


def _reason(result: GenResult) -> Literal["stop", "length"]:
    return "length" if result.finish_reason == "length" else "stop"


def _logprobs(tokens: Sequence[TokenLogprob], offset: int = 0) -> CompletionLogprobs:
    return CompletionLogprobs(
        tokens=[token.token for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[dict(token.top) for token in tokens],
        text_offset=list(accumulate((len(token.token) for token in tokens[:-1]), initial=offset)) if tokens else [],
    )
