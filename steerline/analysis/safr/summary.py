"""All of SAFR's measures of one model, gathered sequence by sequence without keeping activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from steerline.analysis.safr.measures import (
    Floats,
    centred,
    interference,
    interference_attention_correlations,
    interference_gaps,
    token_capacity,
)
from steerline.analysis.safr.reading import ImportanceFrom, TokenReading
from steerline.errors import EvaluationError
from steerline.evaluation.statistics import Interval, bootstrap_interval

# Name, what it is; the order of tables.
MEASURES: Mapping[str, str] = {
    "interference": "mean interference of a token at the embedding, 0..1",
    "interference_gap": "interference of unimportant minus important tokens",
    "interference_attention_correlation": "Spearman correlation of squared interference with attention",
    "capacity_ffn": "mean token capacity at the FFN keys, 0..1",
    "capacity_block": "mean token capacity at the block output, 0..1",
    "importance": "mean importance of a token",
}


@dataclass(frozen=True)
class SafrSummary:
    """Measures of one model.

    Args:
        values: by name, one value for each sequence on which the measure is defined [S'].
        num_sequences: sequences read.
        importance_from: where importance came from.
    """

    values: Mapping[str, Floats]
    num_sequences: int
    importance_from: ImportanceFrom

    def mean(self, name: str) -> float | None:
        """The mean over sequences; none where no sequence has the measure."""
        values = self.values[name]
        return float(values.mean()) if len(values) else None

    def interval(self, name: str) -> Interval | None:
        """The mean with its 95 % bootstrap interval over sequences."""
        values = self.values[name]
        return bootstrap_interval(values) if len(values) else None


def summarise(readings: Iterable[TokenReading], *, center: bool = False) -> SafrSummary:
    """The measures of a model, from its readings; each reading is dropped once it is counted.

    Interference is measured at the embedding site. Correlation and capacities are means over the layers that were read.
    Tokens of a causal model attend backwards only, so its correlation is over pairs k < i.

    Args:
        readings: from `read_tokens`.
        center: subtract the sequence's mean vector first.

    Raises:
        EvaluationError: there is no reading, or an activation is not finite.
    """
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    kinds: list[ImportanceFrom] = []
    for reading in readings:
        kinds.append(reading.importance_from)
        for name, values in _measures(reading, center).items():
            found[name] += values.tolist()
    if not kinds:
        raise EvaluationError("there is no sequence to measure", fix="pass at least one reading")
    return SafrSummary({name: np.array(values) for name, values in found.items()}, len(kinds), kinds[0])


def _measures(reading: TokenReading, center: bool) -> dict[str, Floats]:
    def ready(x: Floats) -> Floats:
        return centred(x) if center else x

    embed = ready(reading.embed)
    interferences = interference(embed)
    correlations = [
        interference_attention_correlations(embed, attention, causal=reading.causal)
        for attention in reading.attention.values()
    ]
    defined = np.concatenate(correlations) if correlations else np.array([])
    return {
        "interference": np.array([interferences.mean()]),
        "interference_gap": interference_gaps(interferences, reading.importance),
        "interference_attention_correlation": np.array([defined.mean()]) if len(defined) else np.array([]),
        "capacity_ffn": _mean_capacity([ready(h) for h in reading.keys.values()]),
        "capacity_block": _mean_capacity([ready(h) for h in reading.blocks.values()]),
        "importance": np.array([reading.importance.mean()]),
    }


def _mean_capacity(layers: list[Floats]) -> Floats:
    return np.array([np.mean([token_capacity(h).mean() for h in layers])]) if layers else np.array([])
