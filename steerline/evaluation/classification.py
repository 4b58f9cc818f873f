"""Texts by a classifier: the class of the largest logit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from steerline.data.batch import collate
from steerline.data.examples import Example
from steerline.data.tokens import TokenizedExample, padding, tokenize_texts
from steerline.errors import EvaluationError
from steerline.evaluation.model_facts import device_of
from steerline.models.anatomy import transformers_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def class_scores(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    max_length: int | None,
    batch_tokens: int,
    on_progress: Callable[[int], None],
) -> list[tuple[float, ...]]:
    """Log-probabilities of the classes (nats) for each text, in order. The model's mode is the caller's.

    Args:
        model: a sequence classifier.
        tokenizer: the model's.
        examples: texts with `choices` as the names of the classes.
        max_length: longer texts are cut, as in training; none cuts nothing.
        batch_tokens: tokens per forward pass, padding included.
        on_progress: told how many texts are done.

    Raises:
        EvaluationError: the model has other classes, a text has no tokens, or a logit is not finite.
    """
    _, inner = transformers_model(model)
    encoded = [_fitting(text, max_length) for text in tokenize_texts(examples, tokenizer)]
    scores: dict[int, tuple[float, ...]] = {}
    for indices in _batches([len(text) for text in encoded], batch_tokens):
        batch = collate([(encoded[i],) for i in indices], padding(tokenizer)).to(device_of(model))
        with torch.inference_mode():
            logits = model(**batch.model_inputs(inner.config)).logits.float()
        _check(logits, examples[indices[0]], encoded[indices[0]].id)
        for i, row in zip(indices, logits.log_softmax(dim=-1).tolist(), strict=True):
            scores[i] = tuple(row)
        on_progress(len(scores))
    return [scores[i] for i in range(len(examples))]


def _fitting(text: TokenizedExample, max_length: int | None) -> TokenizedExample:
    if len(text) == 0:
        raise EvaluationError("a text has no tokens, so it has no class", where=f"item {text.id}", fix="leave it out")
    return text if max_length is None else text.truncated(max_length)


def _batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Texts of like length together, longest first, so that little is padding."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _check(logits: torch.Tensor, example: Example, item: str) -> None:
    if logits.dim() != 2 or logits.shape[1] != len(example.choices):
        raise EvaluationError(
            "the model does not tell these classes apart",
            where=f"item {item}",
            got=f"logits of shape {list(logits.shape)}",
            expected=f"one for each of {', '.join(example.choices)}",
        )
    if not bool(torch.isfinite(logits).all()):
        raise EvaluationError("the model's logits are not finite", where=f"item {item}", fix="check the weights")
