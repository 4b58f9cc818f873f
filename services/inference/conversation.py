"""A conversation as models here take it: system, user and assistant, in plain text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from services.inference.requests import AssistantMessage, Content, Message, SystemMessage, ToolMessage, UserMessage
from steerline.inference.request import ChatMessage


def conversation(messages: Sequence[Message], instruction: str = "") -> tuple[ChatMessage, ...]:
    """The messages, with calls and results of functions written out.

    Args:
        messages: from a request.
        instruction: stands at the end of the first system message, or in one of its own before all else.
    """
    turns = [_turn(message) for message in messages]
    if not instruction:
        return tuple(turns)
    if turns[0].role == "system":
        return (ChatMessage("system", f"{turns[0].content}\n\n{instruction}"), *turns[1:])
    return (ChatMessage("system", instruction), *turns)


def question(messages: Sequence[Message]) -> str:
    """A conversation as one question: what was asked, or all that was said where it is more than that."""
    if len(messages) == 1:
        return text_of(messages[0].content)
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in map(_turn, messages))


def text_of(content: Content | None) -> str:
    """The text of a message's content."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content)


def _turn(message: Message) -> ChatMessage:
    text = text_of(message.content)
    match message:
        case SystemMessage():
            return ChatMessage("system", text)
        case UserMessage():
            return ChatMessage("user", text)
        case ToolMessage():
            return ChatMessage("user", f"The function's result ({message.tool_call_id}):\n{text}")
        case AssistantMessage():
            calls = [_written(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
            return ChatMessage("assistant", "\n".join([*([text] if text else []), *calls]))


def _written(name: str, arguments: str) -> str:
    """A call in the form in which the model is asked for one, whatever stands in its arguments."""
    return f'{{"name": {json.dumps(name)}, "arguments": {arguments}}}'
