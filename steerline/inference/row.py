"""One continuation while it is written."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal

from steerline.config.inference import SamplingSpec
from steerline.config.steering import SteeringSpec
from steerline.inference.constraint import Constraint
from steerline.inference.request import Delta, Failure, GenResult, TokenLogprob, Usage
from steerline.inference.text import Text
from steerline.models.adapter import Adapter

PLAIN = SteeringSpec()


@dataclass(eq=False)
class Row:
    """A prompt, what decides how it goes on, and how far it is.

    Its tokens are those of the prompt and the new ones. All but the last are computed before that one; a pass over the
    last gives the next.
    """

    prompt: list[int]
    sampling: SamplingSpec
    max_tokens: int
    """The sampling's, or what the model's context leaves."""
    text: Text
    report: Callable[[Delta | BaseException], None]
    """Called in the engine's thread with the pieces, the last of which has the result; or with a fault in the code."""
    seed: int = 0
    steering: SteeringSpec = PLAIN
    top_logprobs: int | None = None
    constraint: Constraint | None = None
    streams: bool = False
    """Whether pieces before the last are wanted."""
    adapter: Adapter | None = None

    new: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    computed: int = 0
    """Tokens whose keys and values are there."""
    cached_tokens: int = 0
    """Of the prompt's, those that were not computed for this row."""
    submitted: float = 0.0
    """When, in seconds of the monotonic clock."""
    cancelled: bool = False
    finish: Literal["stop", "length"] | None = None
    shown: str = ""
    logprobs: list[tuple[int, TokenLogprob]] = field(default_factory=list)
    """With the number of characters that were read before each token."""
    sent: tuple[int, int] = (0, 0)
    """Characters and log-probabilities in pieces so far."""

    @property
    def variant(self) -> Hashable:
        """What its keys and values depend on beside its tokens."""
        return self.steering, None if self.adapter is None else self.adapter.key

    @property
    def length(self) -> int:
        """Tokens so far."""
        return len(self.prompt) + len(self.new)

    @property
    def is_prefilling(self) -> bool:
        """Whether more than its last token is to be computed."""
        return self.computed < self.length - 1

    def tokens(self, start: int, stop: int) -> list[int]:
        """Some of its tokens."""
        split = len(self.prompt)
        if start >= split:
            return self.new[start - split : stop - split]
        return [*self.prompt[start:stop], *self.new[: max(0, stop - split)]]

    def add(self, token: int, logprob: TokenLogprob | None, ends: frozenset[int]) -> None:
        """One more token, the end of the text perhaps."""
        self.new.append(token)
        if self.constraint is not None:
            self.constraint.take(token)
        if token in ends:
            self._end("stop")
            return
        before = self.text.length
        self.shown += self.text.add(token)
        if logprob is not None:
            self.logprobs.append((before, logprob))
        if self.text.stopped:
            self._end("stop")
        elif len(self.new) == self.max_tokens:
            self._end("length")

    @property
    def usage(self) -> Usage:
        """What was computed, of a row whose prompt was."""
        return Usage(len(self.prompt), len(self.new), self.cached_tokens)

    def fail(self, failure: Failure, now: float, *, began: bool = False) -> None:
        """Ends it without an answer.

        Args:
            failure: why.
            now: seconds of the monotonic clock.
            began: whether its prompt was computed, so that there is something to pay for.
        """
        usage = self.usage if began else Usage()
        self.report(Delta("", (), GenResult.failed(failure, now - self.submitted, usage)))

    def piece(self, now: float) -> Delta | None:
        """What can be shown and was not, with the result at the end; none when there is nothing.

        Args:
            now: seconds of the monotonic clock.
        """
        characters, tokens = self.sent
        if self.finish is None and (not self.streams or len(self.shown) == characters):
            return None
        told = self._told()
        self.sent = len(self.shown), len(told)
        result = None if self.finish is None else self._result(now)
        return Delta(self.shown[characters:], told[tokens:], result)

    def _result(self, now: float) -> GenResult:
        error = None if self.constraint is None else self.constraint.error
        if error is not None:
            failure = Failure("refused", f"no answer can be held to this response schema any further: {error}")
            return GenResult.failed(failure, now - self.submitted, self.usage)
        assert self.finish is not None, "only an ended row has a result"
        return GenResult(self.shown, self.finish, self.usage, now - self.submitted, logprobs=self._told())

    def _told(self) -> tuple[TokenLogprob, ...]:
        """Log-probabilities of the tokens that what is shown was made of."""
        whole = self.finish is not None and not self.text.stopped
        return tuple(logprob for before, logprob in self.logprobs if whole or before < len(self.shown))

    def _end(self, reason: Literal["stop", "length"]) -> None:
        self.finish = reason
        self.shown += self.text.end()
