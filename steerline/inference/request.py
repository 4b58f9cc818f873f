"""What a caller asks of a model, what comes back, and what a backend is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

from steerline.config.inference import SamplingSpec
from steerline.config.steering import SteeringSpec

Role = Literal["system", "user", "assistant"]
GREEDY = SamplingSpec()
_CHARACTERS_PER_TOKEN = 4  # of English text; requests are weighed by it before anybody has tokenised them


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class GenRequest:
    """One continuation to write.

    The fields up to `steering` decide the text and make up its content address; those after it say who asks.
    """

    model: str
    """Alias: whose queue this waits in."""
    messages: tuple[ChatMessage, ...] = ()
    """The conversation; or leave it empty and give a prompt."""
    prompt: str | None = None
    """A text to continue as it stands, without a chat template."""
    sampling: SamplingSpec = GREEDY
    seed: int = 0
    """Of this call's draws; nothing else does the text depend on at a temperature above 0."""
    response_schema: Mapping[str, Any] | None = None
    """JSON schema that the answer keeps, where the backend can hold it to one."""
    steering: SteeringSpec | None = None
    """What acts inside the model for this row alone."""
    top_logprobs: int | None = None
    """Log-probabilities to report for each token: of the chosen one and of this many likeliest; none reports none. The
    text does not depend on it."""
    revision: str = ""
    """The exact weights behind the alias (a commit, a digest); part of the address."""

    simulation: str = ""
    """Who shares a fair share."""
    agent: str = ""
    call: str = ""
    """The call's place in its simulation, e.g. `3/alice/0`; the same for every attempt."""
    attempt: int = 0
    """Counted by the client, from 0."""
    weight: float = 1.0
    """The simulation's share relative to others."""

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.prompt is not None):
            raise ValueError("a request has either messages or a prompt")
        if not self.weight > 0:
            raise ValueError(f"a weight is above 0, not {self.weight}")

    @cached_property
    def canonical(self) -> dict[str, Any]:
        """Everything that decides the text, as plain data. What does not act at temperature 0 is left out."""
        sampling: dict[str, Any] = {"max_tokens": self.sampling.max_tokens, "stop": list(self.sampling.stop)}
        sampling["temperature"] = self.sampling.temperature
        if self.sampling.temperature > 0:
            sampling |= {"top_p": self.sampling.top_p, "seed": self.seed}
        return {
            "model": self.model,
            "revision": self.revision,
            "messages": [{"role": message.role, "content": message.content} for message in self.messages],
            "prompt": self.prompt,
            "sampling": sampling,
            "response_schema": self.response_schema,
            "steering": None if self.steering is None else _plain(self.steering),
        }

    @cached_property
    def address(self) -> str:
        """SHA-256 of the canonical request: equal addresses ask for the same text."""
        # ASCII, so that a lone surrogate in an agent's text has an address too.
        text = json.dumps(self.canonical, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def prefix(self) -> tuple[str, ...]:
        """Sorting by it brings requests together that begin alike."""
        return (self.prompt,) if self.prompt is not None else tuple(message.content for message in self.messages)

    @cached_property
    def cost(self) -> int:
        """Tokens that the request may take, by a rough count."""
        return sum(map(len, self.prefix)) // _CHARACTERS_PER_TOKEN + self.sampling.max_tokens


@lru_cache(maxsize=1024)
def _plain(steering: SteeringSpec) -> dict[str, Any]:
    return steering.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or many answers."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's, those that another request had already paid for."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no text."""

    kind: Literal["busy", "timeout", "unavailable", "refused", "too_long", "unknown_model"]
    what: str
    """One sentence without a trailing full stop."""
    retry_after_s: float | None = None
    """What the server asks for."""

    @property
    def retryable(self) -> bool:
        """Whether asking again may help. A continuation has no side effect, so that repeating one does no harm."""
        return self.kind in {"busy", "timeout", "unavailable"}


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of the answer and how likely the model held it, before temperature and `top_p`."""

    token: str
    """Its own text; bytes that are no whole character are shown as the replacement character."""
    logprob: float
    """Natural logarithm."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens at this place, likeliest first."""


@dataclass(frozen=True, slots=True)
class GenResult:
    """One answer, or why there is none."""

    text: str
    finish_reason: Literal["stop", "length", "error"]
    usage: Usage = Usage()
    seconds: float = 0.0
    """From the last attempt's start to its end."""
    failure: Failure | None = None
    attempts: int = 1
    coalesced: bool = False
    """An identical request at temperature 0 was answered, and this is its answer too."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """One for each token of the answer, where the request asked for them. They stay out of journals."""

    @classmethod
    def failed(cls, failure: Failure, seconds: float = 0.0, usage: Usage = Usage()) -> GenResult:
        """The result of a request that has no answer, and what was computed of it all the same."""
        return cls("", "error", usage, seconds, failure)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a journal."""
        # By hand: `asdict` copies deeply, which costs more than all else that is done for a turn.
        failure = self.failure
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "completion_tokens": self.usage.completion_tokens,
                "cached_tokens": self.usage.cached_tokens,
            },
            "seconds": self.seconds,
            "failure": None
            if failure is None
            else {"kind": failure.kind, "what": failure.what, "retry_after_s": failure.retry_after_s},
            "attempts": self.attempts,
            "coalesced": self.coalesced,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GenResult:
        """What `to_dict` wrote."""
        failure = None if data["failure"] is None else Failure(**data["failure"])
        return cls(**{**data, "usage": Usage(**data["usage"]), "failure": failure})


@dataclass(frozen=True, slots=True)
class BackendLimits:
    """What a backend takes."""

    max_batch: int = 64
    """Most requests of one call."""
    max_batch_tokens: int = 1 << 30
    """Most tokens of one call, by the requests' own count."""
    in_flight: int = 1
    """Most calls at once."""
    adaptive: bool = False
    """Start with a few calls at once, add while all goes well, halve when the server is busy (AIMD)."""


class Backend(Protocol):
    """Who writes the text. Another kind of backend is a class with these three."""

    @property
    def limits(self) -> BackendLimits:
        """What `generate` takes."""
        ...

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order; a failure is a result, and what is raised is a fault in the code."""
        ...

    async def close(self) -> None:
        """Gives back what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer while it is written."""

    text: str
    """What follows the piece before it: whole characters, and never the beginning of a stop text."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens since the piece before it, where the request asked for them."""
    result: GenResult | None = None
    """Set in the last piece, and only there: the whole answer, or why there is none."""


class StreamingBackend(Backend, Protocol):
    """A backend that shows its answers while it writes them."""

    def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer; the last one has the result, also of a failure. Closing the generator stops it."""
        ...
