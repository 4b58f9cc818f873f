"""Conversations as tokens, through the tokenizer's own chat template; the assistant's turns carry the loss.

A template with `{% generation %}` marks says by itself which tokens the assistant wrote. For any other, the text before
each assistant turn and the text up to its end are rendered; their difference is the turn. That only holds for a
template that leaves earlier turns as they were, which is checked for each conversation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from steerline.data.examples import Example
from steerline.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_chat(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[bool]]:
    """Tokens of a conversation, and which of them the assistant wrote (its end-of-turn token included).

    Raises:
        DataError: no chat template, no assistant turn, or a template whose turns cannot be told apart.
    """
    if not tokenizer.chat_template:
        raise DataError(
            "the tokenizer has no chat template",
            where=f"example {example.id}",
            fix="use a chat model's tokenizer, or the format `prompt_answer`",
        )
    if not any(message["role"] == "assistant" for message in example.messages):
        raise DataError(
            "a conversation has no assistant turn to learn from",
            where=f"example {example.id}",
            got=f"roles {[message['role'] for message in example.messages]}",
        )
    if re.search(r"\{%-?\s*generation\s*-?%\}", _template(tokenizer)):
        return _marked_by_template(example, tokenizer)
    return _marked_by_difference(example, tokenizer)


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    # A tokenizer may carry several templates by name; `get_chat_template` picks the one that would be rendered.
    return str(tokenizer.get_chat_template())


def _marked_by_template(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[bool]]:
    encoded = tokenizer.apply_chat_template(
        [dict(message) for message in example.messages],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return list(encoded["input_ids"]), [bool(mark) for mark in encoded["assistant_masks"]]


def _marked_by_difference(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[bool]]:
    pieces = _pieces(example, tokenizer)
    parts = _cut_whole(pieces, tokenizer) or _cut_apart(pieces, tokenizer)
    if parts is None:
        raise _inseparable(example, "its pieces, tokenised apart, spell another text")
    targets: list[bool] = []
    for (_, assistant), part in zip(pieces, parts, strict=True):
        targets += _up_to_end_of_turn(part, tokenizer) if assistant else [False] * len(part)
    return [token for part in parts for token in part], targets


def _cut_whole(pieces: list[tuple[str, bool]], tokenizer: PreTrainedTokenizerBase) -> list[list[int]] | None:
    """The whole conversation's tokens, cut between pieces; none if a token lies across a cut."""
    whole = _ids(tokenizer, "".join(text for text, _ in pieces))
    parts, text, done = [], "", 0
    for piece, _ in pieces:
        text += piece
        so_far = _ids(tokenizer, text)
        if whole[: len(so_far)] != so_far:
            return None
        parts.append(whole[done : len(so_far)])
        done = len(so_far)
    return parts


def _cut_apart(pieces: list[tuple[str, bool]], tokenizer: PreTrainedTokenizerBase) -> list[list[int]] | None:
    """Each piece's own tokens, as generation would see them; none if together they spell another text."""
    whole = _ids(tokenizer, "".join(text for text, _ in pieces))
    parts = [_ids(tokenizer, text) for text, _ in pieces]
    joined = [token for part in parts for token in part]
    return parts if tokenizer.decode(joined) == tokenizer.decode(whole) else None


def _up_to_end_of_turn(part: list[int], tokenizer: PreTrainedTokenizerBase) -> list[bool]:
    # Templates write a line break after the end-of-turn token; generation stops before it.
    ends = [index for index, token in enumerate(part) if token == tokenizer.eos_token_id]
    last = ends[-1] + 1 if ends else len(part)
    return [True] * last + [False] * (len(part) - last)


def _pieces(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, bool]]:
    """The rendered conversation, cut where the assistant begins and ends."""
    whole = _render(example, tokenizer, len(example.messages), prompt=False)
    pieces: list[tuple[str, bool]] = []
    done = 0
    for index, message in enumerate(example.messages):
        if message["role"] != "assistant":
            continue
        before = _render(example, tokenizer, index, prompt=True)
        after = _render(example, tokenizer, index + 1, prompt=False)
        if not (after.startswith(before) and whole.startswith(after) and len(before) >= done):
            raise _inseparable(
                example, f"turn {index + 1} changes when later turns follow, or has no generation prompt"
            )
        pieces += [(whole[done : len(before)], False), (whole[len(before) : len(after)], True)]
        done = len(after)
    pieces.append((whole[done:], False))
    return [(text, assistant) for text, assistant in pieces if text]


def _render(example: Example, tokenizer: PreTrainedTokenizerBase, turns: int, *, prompt: bool) -> str:
    if turns == 0:  # a conversation that the assistant opens
        return ""
    messages = [dict(message) for message in example.messages[:turns]]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _inseparable(example: Example, why: str) -> DataError:
    return DataError(
        "the tokenizer's chat template does not let the assistant's turns be told apart",
        where=f"example {example.id}",
        got=why,
        expected="a template with {% generation %} marks, or one that leaves earlier turns unchanged",
        fix="add {% generation %} marks to the template, or train on single-turn conversations",
    )
