"""Deletion curves: what a model still gets right when tokens' embeddings are zeroed, most telling tokens first.

If a score finds the tokens that a model relies on, deleting its top tokens hurts more than deleting as many at random.
Zeroed tokens keep their place and position: the vector at the embedding site becomes 0, nothing is removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steerline.analysis.safr.measures import Bools, Floats, interaction_scores
from steerline.analysis.safr.reading import evaluating, read_tokens, target_logits
from steerline.data.batch import Batch
from steerline.errors import EvaluationError
from steerline.evaluation.statistics import Interval, bootstrap_interval
from steerline.models.anatomy import Anatomy, anatomy, first_tensor, replace_first, transformers_model

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
RANDOM = "random"


@dataclass(frozen=True)
class DeletionCurves:
    """Accuracy by share of deleted tokens.

    Args:
        shares: deleted share of a sequence's tokens, 0..1, ascending [P].
        intact: accuracy of each row with nothing deleted [N].
        correct: accuracy of each row [P, N], by what chose the tokens; `random` is the mean over `draws`.
        draws: random choices that were averaged.
    """

    shares: tuple[float, ...]
    intact: Floats
    correct: Mapping[str, Floats]
    draws: int

    def intervals(self, name: str) -> list[Interval]:
        """Accuracy at each share with its 95 % bootstrap interval over rows [P]."""
        return [bootstrap_interval(row) for row in self.correct[name]]

    def drop_beyond_random(self, name: str) -> float:
        """Accuracy under random deletion minus that under `name`, mean over shares; above 0 the score tells more."""
        return float((self.correct[RANDOM] - self.correct[name]).mean())


def token_scores(
    model: nn.Module, batches: Sequence[Batch], *, layer: int | None = None, sites: Anatomy | None = None
) -> dict[str, list[Floats]]:
    """Scores of every token, `importance` and `interaction`, as [B, T] for each batch; 0 at padding.

    Args:
        model: what to read.
        batches: rows with labels.
        layer: whose attention weighs the interaction score; the last by default.
        sites: the model's anatomy, where it is already known.

    Raises:
        EvaluationError, AnatomyError: as `read_tokens`.
    """
    found = sites or anatomy(model)
    chosen = found.num_layers - 1 if layer is None else layer
    empty = [np.zeros(tuple(batch.input_ids.shape)) for batch in batches]
    scores = {"importance": empty, "interaction": [array.copy() for array in empty]}
    for reading in read_tokens(model, batches, layers=[chosen], max_tokens=None, sites=found):
        place = reading.batch, reading.row, reading.positions
        interaction = interaction_scores(reading.embed, reading.attention[chosen], causal=reading.causal)
        for name, values in (("importance", reading.importance), ("interaction", interaction)):
            scores[name][place[0]][place[1], place[2]] = values
    return scores


def deletion_curves(
    model: nn.Module,
    batches: Sequence[Batch],
    scores: Mapping[str, Sequence[Floats]],
    *,
    shares: Sequence[float] = SHARES,
    draws: int = 5,
    seed: int = 0,
    sites: Anatomy | None = None,
) -> DeletionCurves:
    """Delete tokens by each score and at random, and count what stays right.

    In every sequence max(1, round(share * n)) of its n tokens go. A row's accuracy is that of its class, or the share
    of its target tokens that are predicted.

    Args:
        model: a classifier or a language model; it runs in eval mode, and is left in the mode it had.
        batches: rows with labels.
        scores: tokens' scores by name, [B, T] for each batch; the highest are deleted first.
        shares: deleted shares, in 0..1.
        draws: random choices.
        seed: of the random choices.
        sites: the model's anatomy, where it is already known.

    Raises:
        EvaluationError: no row has a label, a share is outside 0..1, or scores do not fit the batches.
    """
    _check(batches, scores, shares, draws)
    found = sites or anatomy(model)
    rng = np.random.default_rng(seed)
    noise = [[rng.random(tuple(batch.input_ids.shape)) for batch in batches] for _ in range(draws)]
    ordered = tuple(sorted(shares))

    def accuracy(by: Sequence[Floats], share: float) -> Floats:
        parts = [
            _row_accuracy(model, batch, top_tokens(values, batch.segment_ids.cpu().numpy(), share), found)
            for batch, values in zip(batches, by, strict=True)
        ]
        return np.concatenate(parts)

    with torch.no_grad(), evaluating(model):
        intact = np.concatenate([_row_accuracy(model, batch, None, found) for batch in batches])
        correct = {name: np.stack([accuracy(by, share) for share in ordered]) for name, by in scores.items()}
        correct[RANDOM] = np.mean([[accuracy(by, share) for share in ordered] for by in noise], axis=0)
    return DeletionCurves(ordered, intact, correct, draws)


def top_tokens(scores: Floats, segment_ids: np.ndarray, share: float) -> Bools:
    """[B, T] bool: in every sequence the max(1, round(share * n)) tokens of highest score, ties from the left.

    Args:
        scores: [B, T].
        segment_ids: [B, T], 0 at padding, another number for each sequence of a row.
        share: 0..1.
    """
    chosen = np.zeros(scores.shape, dtype=bool)
    for row, segments in enumerate(segment_ids):
        for segment in np.unique(segments[segments > 0]):
            places = np.flatnonzero(segments == segment)
            count = max(1, round(share * len(places)))
            chosen[row, places[np.argsort(-scores[row, places], kind="stable")[:count]]] = True
    return chosen


@contextmanager
def zeroed(sites: Anatomy, deleted: Tensor) -> Iterator[None]:
    """While inside, the embedding site's vectors are 0 where `deleted` [B, T] is true."""

    def zero(_module: nn.Module, _args: Any, output: Any) -> Any:
        vectors = first_tensor(output)
        return replace_first(output, vectors.masked_fill(deleted.to(vectors.device)[..., None], 0.0))

    handle = sites.embed.module.register_forward_hook(zero)
    try:
        yield
    finally:
        handle.remove()


def _row_accuracy(model: nn.Module, batch: Batch, deleted: Bools | None, sites: Anatomy) -> Floats:
    """Accuracy of each row that has a label [N]."""
    inner = transformers_model(model)[1]
    on_device = batch.to(next(model.parameters()).device)
    mask = torch.zeros(batch.input_ids.shape, dtype=torch.bool) if deleted is None else torch.from_numpy(deleted)
    with zeroed(sites, mask):
        logits = inner(**on_device.model_inputs(inner.config)).logits
    answers, labels = target_logits(logits, on_device)
    right = (answers.argmax(-1) == labels).double().cpu().numpy()
    if logits.ndim == 2:
        return right
    per_row = batch.target_mask.sum(-1).cpu().numpy()
    return np.array([part.mean() for part in np.split(right, np.cumsum(per_row)[:-1]) if len(part)])


def _check(
    batches: Sequence[Batch], scores: Mapping[str, Sequence[Floats]], shares: Sequence[float], draws: int
) -> None:
    if not any(bool(batch.target_mask.any()) for batch in batches):
        raise EvaluationError("no row has a label", fix="pass batches with labels")
    if draws < 1 or not shares or any(not 0 < share <= 1 for share in shares):
        raise EvaluationError(
            "bad shares or draws", got=f"shares {tuple(shares)}, {draws} draws", expected="shares in 0..1, draws from 1"
        )
    shapes = [tuple(batch.input_ids.shape) for batch in batches]
    for name, by in scores.items():
        if [values.shape for values in by] != shapes:
            raise EvaluationError("the scores do not fit the batches", where=name, expected="[B, T] for each batch")
