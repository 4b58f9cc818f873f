"""`/v1/chat/completions`: from its request to continuations, from their results to its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.http.errors import ApiError
from services.inference.asking import Head, reported, sampling_of, seeds_of, steering_of, tokens_of, used
from services.inference.conversation import conversation
from services.inference.requests import ChatCompletionRequest, JsonObjectFormat, JsonSchemaFormat
from services.inference.responses import (
    AnswerMessage,
    CallDelta,
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatLogprob,
    ChatLogprobs,
    ChunkChoice,
    FinishReason,
    TopLogprob,
    UsedTokens,
)
from services.inference.schemas import check
from services.inference.tools import Calling, calling
from steerline.inference.request import Delta, GenRequest, GenResult, TokenLogprob


@dataclass(frozen=True, slots=True)
class Chat:
    """A request that has been understood: the continuations that it asks for, one for each answer."""

    requests: Sequence[GenRequest]
    calling: Calling | None

    @classmethod
    def of(cls, body: ChatCompletionRequest, most_tokens: int, share: str) -> Chat:
        """Read a request.

        Args:
            body: the request.
            most_tokens: longest continuation.
            share: who shares a fair share.

        Raises:
            ApiError: 400; fields do not go together.
        """
        if body.x_steerline is not None:
            raise ApiError(400, "invalid_request", "only a team shows its agents", param="x_steerline")
        tools = calling(body)
        schema = _schema(body)
        if schema is not None and tools is not None and tools.required:
            raise ApiError(
                400, "invalid_request", "an answer is a call or keeps a form of its own, not both", param="tool_choice"
            )
        schema = tools.schema if tools is not None and tools.required else schema
        sampling = sampling_of(body, tokens_of(body), most_tokens)
        messages = conversation(body.messages, tools.instruction if tools else "")
        requests = [
            GenRequest(
                body.model,
                messages,
                sampling=sampling,
                seed=seed,
                response_schema=schema,
                steering=steering_of(body),
                top_logprobs=_top_logprobs(body),
                simulation=share,
            )
            for seed in seeds_of(body)
        ]
        return cls(requests, tools)


def answer(head: Head, chat: Chat, results: Sequence[GenResult]) -> ChatCompletion:
    """The whole answer, of results without failures."""
    choices = []
    for index, (request, result) in enumerate(zip(chat.requests, results, strict=True)):
        call = chat.calling and chat.calling.read(result.text)
        message = AnswerMessage(content=None if call else result.text, tool_calls=[call] if call else None)
        asked = request.top_logprobs is not None
        logprobs = ChatLogprobs(content=_logprobs(result.logprobs)) if asked else None
        reason = "tool_calls" if call else _reason(result)
        choices.append(ChatChoice(index=index, message=message, finish_reason=reason, logprobs=logprobs))
    return ChatCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=choices,
        usage=reported(used(chat.requests, results)),
        system_fingerprint=head.fingerprint,
    )


def chunk(head: Head, choices: list[ChunkChoice], usage: UsedTokens | None = None) -> ChatCompletionChunk:
    """A piece of a stream."""
    return ChatCompletionChunk(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=choices,
        usage=usage,
        system_fingerprint=head.fingerprint,
    )


class StreamedChoice:
    """One answer while it is written. What may turn out to be a call is held back until that is clear."""

    def __init__(self, index: int, request: GenRequest, calling: Calling | None) -> None:
        self._index = index
        self._asked_logprobs = request.top_logprobs is not None
        self._calling = calling
        self._begun = False
        self._holds = calling is not None
        self._text = ""
        self._logprobs: list[TokenLogprob] = []

    def pieces(self, delta: Delta) -> list[ChunkChoice]:
        """What of an answer can be shown after this piece of it; a failure shows nothing."""
        self._text += delta.text
        self._logprobs += delta.logprobs
        result = delta.result
        if result is not None and result.failure is not None:
            return []
        if self._holds and self._calling is not None:
            begins_otherwise = bool(self._text.strip()) and not self._text.lstrip().startswith("{")
            self._holds = self._calling.required or not begins_otherwise
        call = self._calling.read(result.text) if self._holds and self._calling is not None and result else None
        pieces = []
        if call is not None:
            called = CallDelta(index=0, id=call.id, function=call.function)
            pieces.append(self._piece(ChatDelta(tool_calls=[called])))
        elif self._text and (result is not None or not self._holds):
            pieces.append(self._piece(ChatDelta(content=self._text)))
            self._text, self._logprobs = "", []
        if result is not None:
            reason: FinishReason = "tool_calls" if call is not None else _reason(result)
            pieces.append(self._piece(ChatDelta(), reason))
        return pieces

    def _piece(self, delta: ChatDelta, reason: FinishReason | None = None) -> ChunkChoice:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        shown = self._asked_logprobs and "content" in delta
        logprobs = ChatLogprobs(content=_logprobs(self._logprobs)) if shown else None
        return ChunkChoice(index=self._index, delta=delta, finish_reason=reason, logprobs=logprobs)


def _schema(body: ChatCompletionRequest) -> Mapping[str, Any] | None:
    match body.response_format:
        case JsonSchemaFormat(json_schema=form):
            check({"response_format.json_schema.schema": form.schema_})
            return form.schema_
        case JsonObjectFormat():
            return {"type": "object"}
    return None


def _top_logprobs(body: ChatCompletionRequest) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "invalid_request", "top_logprobs needs logprobs: true", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


def _reason(result: GenResult) -> FinishReason:
    return "length" if result.finish_reason == "length" else "stop"


def _logprobs(tokens: Sequence[TokenLogprob]) -> list[ChatLogprob]:
    return [
        ChatLogprob(
            token=token.token,
            logprob=token.logprob,
            bytes=_bytes(token.token),
            top_logprobs=[TopLogprob(token=text, logprob=value, bytes=_bytes(text)) for text, value in token.top],
        )
        for token in tokens
    ]


def _bytes(text: str) -> list[int] | None:
    """None where the token is a piece of a character, whose bytes its text does not tell."""
    return None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())
