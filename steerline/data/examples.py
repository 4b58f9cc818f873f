"""The one form into which every data set is brought before it meets a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Example:
    """A prompt and the answer to learn or to score.

    Args:
        id: unique within its data set and the same in every run: the source's name and the row's number.
        prompt: text before the answer, exactly as a model is prompted with it.
        answer: text that follows, without the end-of-text token.
        choices: the options of a multiple-choice item, as words that `answer` ends with (`solution1`), or the names of
            the classes of a text to classify, else empty.
        label: index of the right choice; none without choices.
        messages: a conversation of `{role, content}` instead of the two texts above; `prompt` and `answer` then only
            describe it.
        target: what a model learns of it: the answer's tokens, or which of `choices` the prompt belongs to.
    """

    id: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    label: int | None = None
    messages: tuple[Mapping[str, str], ...] = ()
    target: Literal["answer", "class"] = "answer"
