"""What the OpenAI-compatible endpoints send."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

FinishReason = Literal["stop", "length", "tool_calls"]


class Answer(BaseModel):
    """A piece of an answer."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class CachedTokens(Answer):
    """Where a prompt's tokens came from."""

    cached_tokens: int
    """Those that another request had already paid for."""


class UsedTokens(Answer):
    """What an answer took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class TopLogprob(Answer):
    """A token that could have stood at a place."""

    token: str
    logprob: float
    bytes: list[int] | None
    """Its text in UTF-8."""


class ChatLogprob(TopLogprob):
    """A token of the answer."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Answer):
    """How likely the tokens of an answer were."""

    content: list[ChatLogprob]
    refusal: None = None


class CalledFunction(Answer):
    """A function and what it is called with."""

    name: str
    arguments: str
    """JSON, as the model wrote it; cut off where the answer's `finish_reason` is `length`."""


class Call(Answer):
    """A call that the assistant asks for."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AnswerMessage(Answer):
    """What the assistant said."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[Call] | None = None


class ChatChoice(Answer):
    """One of the answers."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Answer):
    """A whole answer to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsedTokens
    system_fingerprint: str | None = None
    """Which weights answered, where that is known."""


class CallDelta(Call):
    """A call in a stream; it comes in one piece."""

    index: int


class ChatDelta(TypedDict, total=False):
    """What a piece of a stream adds; nothing else is in it."""

    role: Literal["assistant"]
    content: str
    tool_calls: list[CallDelta]


class ChunkChoice(Answer):
    """What a piece adds to one of the answers."""

    index: int
    delta: ChatDelta
    finish_reason: FinishReason | None = None
    logprobs: ChatLogprobs | None = None


class ChatCompletionChunk(Answer):
    """A piece of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsedTokens | None = None
    system_fingerprint: str | None = None


class Played(Answer):
    """What stands behind an answer of a team or of an agent."""

    simulation: str
    """Its id, under `/v1/simulations`."""
    agent: str | None = None
    """Who speaks, in a stream that shows the agents."""
    text: str | None = None
    """What it says."""


class PlayedCompletion(ChatCompletion):
    """A whole answer of a team or of an agent."""

    x_steerline: Played
    """An extension."""


class PlayedChunk(ChatCompletionChunk):
    """A piece of a streamed answer of a team or of an agent."""

    x_steerline: Played
    """An extension."""


class CompletionLogprobs(Answer):
    """How likely the tokens of a continuation were."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Answer):
    """One of the continuations."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None = None
    """Set in whole answers, and in the last piece of a stream."""
    logprobs: CompletionLogprobs | None = None


class Completion(Answer):
    """A continuation, or a piece of one in a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsedTokens | None = None
    system_fingerprint: str | None = None


class Model(Answer):
    """A model that may be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    about: str = ""
    """An extension: one line for people."""


class ModelList(Answer):
    """Every model."""

    object: Literal["list"] = "list"
    data: list[Model]
