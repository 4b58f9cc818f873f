"""Everything SAFR's figures show of one model, gathered from held-out rows, and the figures of several models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from steerline.analysis.safr.allocation_figure import allocation_figure
from steerline.analysis.safr.deletion import SHARES, DeletionCurves, deletion_curves, token_scores
from steerline.analysis.safr.deletion_figure import deletion_figure
from steerline.analysis.safr.importance_figure import importance_figure
from steerline.analysis.safr.interaction_figure import interaction_figure
from steerline.analysis.safr.measures import Floats, centred, squared_interference, token_capacity
from steerline.analysis.safr.reading import TokenReading, read_tokens
from steerline.analysis.safr.summary import SafrSummary, summarise
from steerline.analysis.safr.token_axis import MAX_TOKENS
from steerline.data.batch import Batch
from steerline.errors import EvaluationError
from steerline.models.anatomy import Anatomy, anatomy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A sentence of fewer tokens shows too little, if a longer one is there.
_MIN_TOKENS = 8


@dataclass(frozen=True)
class Portrait:
    """One model as the figures show it.

    Args:
        summary: the measures.
        sentence: the reading of one sentence.
        importances: of all tokens that were read [N].
        curves: deletion curves; none where no row has a label.
        center: whether means were subtracted before directions were compared.
    """

    summary: SafrSummary
    sentence: TokenReading
    importances: Floats
    curves: DeletionCurves | None
    center: bool


def portray(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    layers: Sequence[int] | None = None,
    center: bool = False,
    shares: Sequence[float] = SHARES,
    draws: int = 5,
    seed: int = 0,
    sites: Anatomy | None = None,
) -> Portrait:
    """Read a model and delete its tokens. Portraits of several models belong on the same batches with the same seed.

    Args:
        model: a classifier or a language model.
        batches: held-out rows.
        layers: whose keys, block outputs and attention are read; the last by default.
        center: subtract each sequence's mean vector before directions are compared.
        shares, draws: of the deletion curves.
        seed: of all draws.
        sites: the model's anatomy, where it is already known.

    Raises:
        EvaluationError, AnatomyError: as `read_tokens` and `deletion_curves`.
    """
    found = sites or anatomy(model)
    chosen = (found.num_layers - 1,) if layers is None else tuple(layers)
    place = _sentence_of(batches)
    kept: list[TokenReading] = []
    importances: list[Floats] = []

    def watched() -> Iterator[TokenReading]:
        for reading in read_tokens(model, batches, layers=chosen, seed=seed, sites=found):
            importances.append(reading.importance)
            if (reading.batch, reading.row) == place and not kept:
                kept.append(reading)
            yield reading

    summary = summarise(watched(), center=center)
    curves = None
    if any(bool(batch.target_mask.any()) for batch in batches):
        scores = token_scores(model, batches, layer=chosen[-1], sites=found)
        curves = deletion_curves(model, batches, scores, shares=shares, draws=draws, seed=seed, sites=found)
    return Portrait(summary, kept[0], np.concatenate(importances), curves, center)


def portrait_figures(portraits: Mapping[str, Portrait], tokenizer: PreTrainedTokenizerBase) -> dict[str, Figure]:
    """The figures of several models side by side, by name: allocation, interaction, importance, and deletion where rows
    have labels.

    Raises:
        EvaluationError: there is no portrait, or the portraits show different sentences.
    """
    sentences = {label: portrait.sentence for label, portrait in portraits.items()}
    if len({(sentence.id, tuple(sentence.input_ids)) for sentence in sentences.values()}) != 1:
        raise EvaluationError("the portraits show different sentences", fix="read the models on the same batches")
    first = next(iter(portraits.values()))
    tokens = [tokenizer.decode([int(token)]) for token in first.sentence.input_ids]
    figures = {
        "allocation": _allocation(tokens, portraits),
        "interaction": _interaction(tokens, portraits),
    }
    kinds = {sentence.importance_from for sentence in sentences.values()}
    # A gate's value and a gradient have no common axis: then only the last model is shown.
    same = dict(portraits) if len(kinds) == 1 else dict([list(portraits.items())[-1]])
    figures["importance"] = importance_figure(
        {label: portrait.importances for label, portrait in same.items()},
        tokens,
        {label: sentences[label].importance for label in same},
        importance_from=sentences[list(same)[-1]].importance_from,
    )
    curves = {label: portrait.curves for label, portrait in portraits.items() if portrait.curves is not None}
    if curves:
        figures["deletion"] = deletion_figure(curves)
    return figures


def _allocation(tokens: Sequence[str], portraits: Mapping[str, Portrait]) -> Figure:
    layer = max(next(iter(portraits.values())).sentence.keys)
    keys = {label: token_capacity(_ready(p, p.sentence.keys[layer])) for label, p in portraits.items()}
    blocks = {label: token_capacity(_ready(p, p.sentence.blocks[layer])) for label, p in portraits.items()}
    return allocation_figure(tokens, {f"FFN keys, layer {layer}": keys, f"Block output, layer {layer}": blocks})


def _interaction(tokens: Sequence[str], portraits: Mapping[str, Portrait]) -> Figure:
    layer = max(next(iter(portraits.values())).sentence.keys)
    squares = {label: squared_interference(_ready(p, p.sentence.keys[layer])) for label, p in portraits.items()}
    attention = {label: p.sentence.attention[layer] for label, p in portraits.items()}
    return interaction_figure(
        tokens, {f"squared interference, FFN keys {layer}": squares, f"attention, layer {layer}": attention}
    )


def _ready(portrait: Portrait, x: Floats) -> Floats:
    return centred(x) if portrait.center else x


def _sentence_of(batches: Sequence[Batch]) -> tuple[int, int]:
    """Batch and row of the first sentence that fits a figure, else of the first one."""
    for number, batch in enumerate(batches):
        for row, segments in enumerate(batch.segment_ids):
            if _MIN_TOKENS <= int((segments == 1).sum()) <= MAX_TOKENS:
                return number, row
    rows = [(number, row) for number, batch in enumerate(batches) for row in range(len(batch.segment_ids))]
    return next((place for place in rows if bool((batches[place[0]].segment_ids[place[1]] > 0).any())), (0, 0))
