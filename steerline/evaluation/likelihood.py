"""Multiple choice by answer likelihood.

score of an option = sum over its answer tokens of ln p(token | prompt, earlier answer tokens), in nats, divided by 1,
by its number of answer tokens, or by its number of UTF-8 bytes.

Only the positions that are read reach the language-model head (`gathered_head`), so a pass never makes [B, T, V]
logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steerline.data.examples import Example
from steerline.errors import EvaluationError
from steerline.evaluation.encoding import Option, Row, batches, encode_options, flat_rows, tree_row
from steerline.evaluation.gathered_head import gathered_head
from steerline.evaluation.model_facts import check_length, device_of, supports_branches
from steerline.models.anatomy import transformers_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Normalise = Literal["none", "tokens", "bytes"]
Progress = Callable[[int], None]

# Readings in one batch; bounds the [N, V] logits (512 MiB in fp32 for a vocabulary of 128 Ki).
MAX_READS = 1024


def score_options(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    normalise: Normalise = "none",
    batch_tokens: int = 4096,
    share_prompt: bool = True,
    on_progress: Progress = lambda _: None,
) -> list[tuple[float, ...]]:
    """Scores of every option of every example, in nats.

    With `share_prompt` the options of an item share one row wherever that gives the same probabilities; without it, or
    for a model family whose attention is not known to take such rows, every option is a row of its own.

    Raises:
        EvaluationError: an item cannot be scored, is longer than the model's context, or its scores are not finite.
    """
    questions = Questions.of(model, tokenizer, examples, share_prompt=share_prompt)
    tally = Tally(questions)
    with reading(model) as log_probabilities:
        for batch in batches(questions.rows, batch_tokens, MAX_READS):
            tally.add(batch, log_probabilities(batch))
            on_progress(tally.num_done)
    return tally.scores(normalise)[0]


@dataclass(frozen=True)
class Questions:
    """Items to score, tokenised: the options of each, and the rows that forward passes read."""

    examples: Sequence[Example]
    options: Sequence[tuple[Option, ...]]
    rows: Sequence[Row]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        *,
        share_prompt: bool = True,
    ) -> Questions:
        """The examples as this model reads them.

        Raises:
            EvaluationError: an item cannot be scored, or is longer than the model's context.
        """
        encoded = encode_options(examples, tokenizer)
        rows: list[Row] = []
        for item, (example, options) in enumerate(zip(examples, encoded, strict=True)):
            check_length(model, max(len(option.ids) for option in options) - 1, example.id)
            rows += _rows(model, item, options, share_prompt=share_prompt)
        return cls(examples, encoded, rows)


class Tally:
    """Adds up what passes read: for each of C copies of the questions, the log-probability of every option."""

    def __init__(self, questions: Questions, copies: int = 1) -> None:
        self._questions = questions
        self._sums = [np.zeros((copies, len(options))) for options in questions.options]
        self._waiting = np.bincount([row.item for row in questions.rows], minlength=len(questions.options)) * copies

    @property
    def num_done(self) -> int:
        """Items of which every option of every copy has been read."""
        return int((self._waiting == 0).sum())

    def add(self, rows: Sequence[Row], values: NDArray[np.float64], first_copy: int = 0) -> None:
        """Take what was read from `rows`: [copies, N], the copies from `first_copy` on."""
        copies = slice(first_copy, first_copy + len(values))
        start = 0
        for row in rows:
            read = values[:, start : start + len(row.reads)]
            np.add.at(self._sums[row.item][copies].T, row.options, read.T)
            start += len(row.reads)
            self._waiting[row.item] -= len(values)

    def scores(self, normalise: Normalise) -> list[list[tuple[float, ...]]]:
        """The score of every option of every item, for each copy.

        Raises:
            EvaluationError: one is not finite.
        """
        scores = []
        for example, options, sums in zip(self._questions.examples, self._questions.options, self._sums, strict=True):
            if not np.isfinite(sums).all():
                raise EvaluationError(
                    "the model's log-likelihoods are not finite",
                    where=f"item {example.id}",
                    got=sums.tolist(),
                    fix="check the model's weights; with fp16, evaluate in bf16 or fp32",
                )
            scores.append(sums / [_length(option, normalise) for option in options])
        return [[tuple(item[copy].tolist()) for item in scores] for copy in range(len(scores[0]))]


def _length(option: Option, normalise: Normalise) -> int:
    return {"none": 1, "tokens": option.num_scored, "bytes": max(1, option.num_bytes)}[normalise]


def _rows(model: nn.Module, item: int, options: Sequence[Option], *, share_prompt: bool) -> list[Row]:
    if not share_prompt:
        return flat_rows(item, options)
    row = tree_row(item, options)
    if not row.branch.any() or supports_branches(model, len(row)):
        return [row]
    return flat_rows(item, options)


@contextmanager
def reading(model: nn.Module) -> Iterator[Callable[..., NDArray[np.float64]]]:
    """Inside, a function from rows to the log-probabilities of all their readings, one row after the other [1, N].

    With `copies=C` the model is taken to make C copies of the rows on the way (`fan_out`): [C, N].
    """
    _, inner = transformers_model(model)
    with gathered_head(inner) as logits_at:

        def log_probabilities(rows: Sequence[Row], copies: int = 1) -> NDArray[np.float64]:
            inputs, width = _inputs(rows, device_of(model), inner.dtype)
            flat = np.concatenate([row.reads + i * width for i, row in enumerate(rows)])
            # Options with one token of their own all read the trunk's last position.
            unique, inverse = np.unique(flat, return_inverse=True)
            places = (np.arange(copies)[:, None] * len(rows) * width + unique).reshape(-1)
            logits = logits_at(inputs, torch.from_numpy(places).to(device_of(model)))  # [copies * unique, V]
            tokens = torch.from_numpy(np.concatenate([row.tokens for row in rows])).to(logits.device)
            where = torch.from_numpy(inverse).to(logits.device)
            total = torch.logsumexp(logits, dim=-1).view(copies, -1)
            read = logits.view(copies, len(unique), -1)[:, where, tokens] - total[:, where]
            return read.cpu().numpy().astype(np.float64)

        yield log_probabilities


def _inputs(rows: Sequence[Row], device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Tensor], int]:
    """Right-padded inputs. Without branches they are the plain ones, which every causal model takes."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    valid = torch.zeros(len(rows), width, dtype=torch.bool)
    branch = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.from_numpy(row.ids)
        valid[i, : len(row)] = True
        branch[i, : len(row)] = torch.from_numpy(row.branch)
        positions[i, : len(row)] = torch.from_numpy(row.positions)
    if not branch.any():
        return {"input_ids": ids.to(device), "attention_mask": valid.long().to(device)}, width
    mask = branch_mask(branch, valid, dtype)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return {name: tensor.to(device) for name, tensor in inputs.items()}, width


def branch_mask(branch: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention mask [B, 1, T, T]: a token sees the trunk and its own branch up to itself, never padding.

    Padding sees itself, so that no softmax is empty. Additive because eager attention takes no boolean mask.
    """
    size = branch.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    related = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    allowed = (causal & related & valid[:, None, :]) | torch.eye(size, dtype=torch.bool)
    mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)
    return mask[:, None]
