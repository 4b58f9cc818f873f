"""Items as tokens: options that share what they can, and rows that a forward pass reads.

Legend: P tokens of the trunk (what all options of an item begin with), N tokens whose probability is read.

An item with short options ("true" / "false", "solution1" / "solution2") differs only in the last token, so its options
are scored from one pass over the trunk. Longer options become branches: they sit behind the trunk in the same row,
each at the positions it would have alone, and a mask keeps them from seeing one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from steerline.data.examples import Example
from steerline.data.tokens import TokenizedExample, beginning_of_text, tokenize_all
from steerline.errors import EvaluationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Option:
    """One option in full: `ids` [T] of prompt and answer, `scored` [T] marks the answer's tokens."""

    ids: Ints
    scored: NDArray[np.bool_]
    num_bytes: int

    @property
    def num_scored(self) -> int:
        """Answer tokens."""
        return int(self.scored.sum())


@dataclass(frozen=True)
class Row:
    """One row of a forward pass.

    `branch` [T] is 0 on the trunk and k + 1 on option k's branch. Reading n takes the probability of `tokens[n]` at
    `reads[n]` for option `options[n]` of item `item`.
    """

    item: int
    ids: Ints
    positions: Ints
    branch: Ints
    reads: Ints
    tokens: Ints
    options: Ints

    def __len__(self) -> int:
        return len(self.ids)


def encode_options(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> list[tuple[Option, ...]]:
    """Every option of every item, tokenised just as a training example with that answer.

    Raises:
        EvaluationError: an item has no choices, no label, or an option without tokens of its own.
    """
    for example in examples:
        _check_choices(example)
    variants = [_with_choice(example, choice) for example in examples for choice in example.choices]
    encoded = iter(tokenize_all(variants, tokenizer, "answer"))
    return [tuple(_option(next(encoded), choice, tokenizer) for choice in example.choices) for example in examples]


def _check_choices(example: Example) -> None:
    if not example.choices or example.label is None or example.messages:
        raise EvaluationError(
            "an item scored by likelihood needs a prompt, choices and the right one's number",
            where=f"item {example.id}",
            got="a conversation" if example.messages else f"{len(example.choices)} choices, label {example.label}",
            fix="use a multiple-choice task format, or `method: generate`",
        )
    if not all(choice.strip() for choice in example.choices):
        raise EvaluationError(
            "an option has no text to score",
            where=f"item {example.id}",
            got=f"options {example.choices}",
            fix="leave the item out, or give every option a text",
        )


def _with_choice(example: Example, choice: str) -> Example:
    # Where the answer wraps the option ("the correct answer is true"), every option gets the same wrapping.
    gold = example.choices[example.label or 0]
    lead = example.answer.removesuffix(gold) if example.answer.endswith(gold) else ""
    return replace(example, answer=lead + choice)


def _option(encoded: TokenizedExample, choice: str, tokenizer: PreTrainedTokenizerBase) -> Option:
    # The end-of-text token that training appends is no part of an option: a model that was never fine-tuned would be
    # judged by how eager it is to stop.
    size = len(encoded) - int(encoded.input_ids[-1] == tokenizer.eos_token_id)
    return Option(encoded.input_ids[:size].astype(np.int64), encoded.targets[:size], len(choice.encode()))


def encode_prompts(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> list[Ints]:
    """The tokens before each answer (before the last turn, for a conversation), tokenised just as in training [P].

    Raises:
        EvaluationError: an item has nothing before its answer.
    """
    prompts = []
    for example, encoded in zip(examples, tokenize_all(examples, tokenizer, "answer"), strict=True):
        if example.messages:
            starts = np.flatnonzero(np.diff(encoded.targets.astype(np.int8), prepend=0) == 1)
            size = int(starts[-1]) if len(starts) else len(encoded)
        else:
            # The first token never carries the loss, so with neither prompt nor beginning-of-text it is the answer's.
            size = int(np.argmax(encoded.targets)) if example.prompt or beginning_of_text(tokenizer) else 0
        if size == 0:
            raise EvaluationError(
                "an item has no prompt to generate from",
                where=f"item {example.id}",
                got=repr(example.prompt),
                fix="leave the item out, or use a tokenizer with a beginning-of-text token",
            )
        prompts.append(encoded.input_ids[:size].astype(np.int64))
    return prompts


def flat_rows(item: int, options: Sequence[Option]) -> list[Row]:
    """One row for each option: the plain way, right for every causal model."""
    rows = []
    for number, option in enumerate(options):
        reads = np.flatnonzero(option.scored) - 1
        size = len(option.ids) - 1
        rows.append(
            Row(
                item=item,
                ids=option.ids[:-1],
                positions=np.arange(size),
                branch=np.zeros(size, np.int64),
                reads=reads,
                tokens=option.ids[reads + 1],
                options=np.full(len(reads), number),
            )
        )
    return rows


def tree_row(item: int, options: Sequence[Option]) -> Row:
    """All options of an item behind their common trunk, in one row."""
    trunk = common_prefix([option.ids for option in options])
    ids, positions, branch = [options[0].ids[:trunk]], [np.arange(trunk)], [np.zeros(trunk, np.int64)]
    reads, tokens, numbers = [], [], []
    offset = trunk
    for number, option in enumerate(options):
        own = option.ids[trunk:-1]  # the last token is only ever read, never an input
        ids.append(own)
        positions.append(np.arange(trunk, trunk + len(own)))
        branch.append(np.full(len(own), number + 1))
        before = np.flatnonzero(option.scored) - 1
        reads.append(np.where(before < trunk, before, before - trunk + offset))
        tokens.append(option.ids[before + 1])
        numbers.append(np.full(len(before), number))
        offset += len(own)
    return Row(
        item,
        np.concatenate(ids),
        np.concatenate(positions),
        np.concatenate(branch),
        np.concatenate(reads),
        np.concatenate(tokens),
        np.concatenate(numbers),
    )


def common_prefix(sequences: Sequence[Ints]) -> int:
    """Length of the longest common beginning."""
    shortest = min(len(sequence) for sequence in sequences)
    stacked = np.stack([sequence[:shortest] for sequence in sequences])
    differs = np.flatnonzero((stacked != stacked[0]).any(axis=0))
    return int(differs[0]) if len(differs) else shortest


def batches(rows: Sequence[Row], max_tokens: int, max_reads: int) -> list[list[Row]]:
    """Rows of like length together, longest first; a batch has at most `max_tokens`, padding included, and
    `max_reads` readings. A row beyond a limit gets a batch of its own.
    """
    result: list[list[Row]] = []
    width = reads = 0
    for row in sorted(rows, key=len, reverse=True):
        fits = result and (len(result[-1]) + 1) * width <= max_tokens and reads + len(row.reads) <= max_reads
        if not fits:
            result.append([])
            width, reads = len(row), 0
        result[-1].append(row)
        reads += len(row.reads)
    return result
