"""What is read of the answers of servers with OpenAI's interface, whole or in pieces; all else is passed over."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from steerline.inference.request import Failure, TokenLogprob, Usage


class _Message(BaseModel):
    content: str | None = None


class _TopLogprob(BaseModel):
    token: str
    logprob: float


class _TokenLogprob(_TopLogprob):
    top_logprobs: list[_TopLogprob] = []


class _Logprobs(BaseModel):
    """The chat interface has `content`, that for plain texts the lists side by side."""

    content: list[_TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None

    def told(self) -> tuple[TokenLogprob, ...]:
        if self.content is not None:
            return tuple(
                TokenLogprob(one.token, one.logprob, tuple((top.token, top.logprob) for top in one.top_logprobs))
                for one in self.content
            )
        tokens = self.tokens or []
        logprobs = self.token_logprobs or [None] * len(tokens)
        tops = self.top_logprobs or [None] * len(tokens)
        return tuple(
            TokenLogprob(token, logprob, tuple(sorted((top or {}).items(), key=lambda item: -item[1])))
            for token, logprob, top in zip(tokens, logprobs, tops, strict=True)
            if logprob is not None
        )


class Choice(BaseModel):
    """The answer, or a piece of it."""

    message: _Message | None = None
    delta: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    @property
    def content(self) -> str:
        """Its text."""
        said = self.message or self.delta
        return (self.text if said is None else said.content) or ""

    @property
    def told(self) -> tuple[TokenLogprob, ...]:
        """Its tokens' log-probabilities."""
        return () if self.logprobs is None else self.logprobs.told()


class _CachedTokens(BaseModel):
    cached_tokens: int | None = None


class _Used(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _CachedTokens | None = None

    def usage(self) -> Usage:
        cached = self.prompt_tokens_details
        return Usage(self.prompt_tokens, self.completion_tokens, 0 if cached is None else cached.cached_tokens or 0)


class Answer(BaseModel):
    """A whole answer."""

    choices: list[Choice] = Field(min_length=1)
    usage: _Used = _Used()


class Chunk(BaseModel):
    """A piece of one. The last one may have usage and no choice."""

    choices: list[Choice] = []
    usage: _Used | None = None
    error: dict[str, object] | None = None
    """What went wrong after the answer had begun."""


def ending(reason: str | None) -> Literal["stop", "length"] | Failure:
    """How an answer ended, by what the server says."""
    if reason == "content_filter":
        return Failure("refused", "the server's filter held the answer back")
    return "length" if reason == "length" else "stop"
