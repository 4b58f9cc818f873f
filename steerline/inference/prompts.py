"""Requests as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2.exceptions import TemplateError

from steerline.errors import InferenceError
from steerline.inference.request import ChatMessage, GenRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptEncoder:
    """Renders conversations with the tokenizer's own chat template, up to where the assistant begins to speak.

    What agents write cannot end a turn or begin one: a special token that is spelled out in a message is broken by a
    space after its first character.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        self._special = sorted({token.content for token in added if token.special}, key=len, reverse=True)

    def encode(self, request: GenRequest) -> list[int]:
        """The prompt's tokens.

        Raises:
            InferenceError: the model has no chat template, or its template refuses the conversation.
        """
        if request.prompt is not None:
            ids: list[int] = self._tokenizer(request.prompt, verbose=False)["input_ids"]
            return ids
        if not self._tokenizer.chat_template:
            raise InferenceError(
                "the model has no chat template",
                where=f"model `{request.model}`",
                fix="ask with `prompt` in place of `messages`, or use a chat model",
            )
        try:
            encoded = self._tokenizer.apply_chat_template(
                self._plain(request.messages), add_generation_prompt=True, tokenize=True, return_dict=True
            )
        except TemplateError as error:
            raise InferenceError(
                "the model's chat template refuses the conversation",
                where=f"model `{request.model}`",
                got=f"{error} (roles: {', '.join(message.role for message in request.messages)})",
            ) from error
        return list(encoded["input_ids"])

    def _plain(self, messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
        return [{"role": message.role, "content": self._broken(message.content)} for message in messages]

    def _broken(self, text: str) -> str:
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text
