"""How the key coefficients of each layer are distributed, counted while a model runs.

The bins are the bfloat16 numbers themselves: 65536 of them, in ascending order. Counting a key is a rounding to
bfloat16 (exact for a bf16 model, 0.4 % otherwise) and an integer operation, whatever its scale; nothing of size [B, T,
F] is kept; and two models are compared without choosing a range first.

Legend: L layers, F keys of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steerline.errors import EvaluationError

Of = Literal["value", "magnitude"]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

NUM_BINS = 1 << 16
_HALF = NUM_BINS // 2
# Index of the last finite number on each side of zero: beyond lie infinity and the NaNs.
_LARGEST = 0x7F7F


def bin_values(of: Of = "value") -> Floats:
    """The number each bin stands for, ascending: all bfloat16 numbers [65536], or the non-negative ones [32768].

    Infinity and NaN, at the ends, are given as they are.
    """
    codes = torch.arange(_HALF, dtype=torch.int32).to(torch.int16)
    magnitudes: Floats = codes.view(torch.bfloat16).double().numpy()
    return magnitudes if of == "magnitude" else np.concatenate([-magnitudes[::-1], magnitudes])


@dataclass(frozen=True)
class KeyHistogram:
    """Counts [L, 65536] of key coefficients by layer and signed value. `layers` names the rows."""

    layers: tuple[int, ...]
    counts: Counts

    def __post_init__(self) -> None:
        if self.counts.shape != (len(self.layers), NUM_BINS):
            raise EvaluationError(
                "this is not a key histogram",
                got=f"counts of shape {self.counts.shape} for {len(self.layers)} layers",
                expected=f"({len(self.layers)}, {NUM_BINS})",
            )

    @classmethod
    def empty(cls, layers: Sequence[int]) -> KeyHistogram:
        """A histogram that has counted nothing yet."""
        return cls(tuple(layers), np.zeros((len(layers), NUM_BINS), np.int64))

    def add(self, layer: int, keys: Tensor) -> None:
        """Count keys of any shape.

        Raises:
            EvaluationError: a key is infinite or NaN.
        """
        codes = keys.detach().reshape(-1).to(torch.bfloat16).view(torch.int16)
        # Negative numbers run backwards in sign-magnitude codes.
        ordered = (codes ^ ((codes >> 15) & 0x7FFF)).to(torch.int32) + _HALF
        new = torch.bincount(ordered, minlength=NUM_BINS).cpu().numpy()
        bad = int(new[: _HALF - 1 - _LARGEST].sum() + new[_HALF + _LARGEST + 1 :].sum())
        if bad:
            raise EvaluationError(
                "key coefficients are not finite",
                where=f"layer {layer}",
                got=f"{bad} infinite or NaN keys",
                fix="check the model's weights; with fp16, measure in bf16 or fp32",
            )
        self.counts[self.layers.index(layer)] += new

    def __add__(self, other: KeyHistogram) -> KeyHistogram:
        """Both counts together, e.g. of two workers."""
        _same_layers(self, other)
        return KeyHistogram(self.layers, self.counts + other.counts)

    def by(self, of: Of) -> Counts:
        """Counts by value [L, 65536] or by magnitude [L, 32768]."""
        if of == "value":
            return self.counts
        return self.counts[:, _HALF:] + self.counts[:, _HALF - 1 :: -1]

    def quantile(self, q: float, of: Of = "value") -> Floats:
        """The q-quantile of each layer's keys [L], to the bin."""
        counts = self.by(of)
        values = bin_values(of)
        return np.array([values[_cut(row, q)[0]] for row in counts])

    def save(self, path: Path) -> None:
        """Write an .npz file; most bins are empty, so it is small."""
        np.savez_compressed(path, layers=np.array(self.layers), counts=self.counts)

    @classmethod
    def load(cls, path: Path) -> KeyHistogram:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(tuple(int(layer) for layer in file["layers"]), file["counts"])


def _same_layers(a: KeyHistogram, b: KeyHistogram) -> None:
    if a.layers != b.layers:
        raise EvaluationError(
            "the histograms are of different layers", got=f"{a.layers} and {b.layers}", expected="the same layers"
        )


def _cut(row: Counts, q: float) -> tuple[int, float]:
    """Where the lower share q of a layer's keys ends: the bin, and the part of that bin that is still below."""
    total = int(row.sum())
    if total == 0:
        raise EvaluationError("no keys were counted", fix="measure the model on at least one batch first")
    cumulative = np.cumsum(row)
    index = int(np.searchsorted(cumulative, q * total))
    below = int(cumulative[index] - row[index])
    return index, (q * total - below) / int(row[index])


def _below(row: Counts, cut: tuple[int, float]) -> float:
    index, part = cut
    return float(row[:index].sum()) + part * float(row[index])


def region_counts(
    base: KeyHistogram, other: KeyHistogram, *, low: float = 0.25, high: float = 0.75, of: Of = "magnitude"
) -> Floats:
    """How many of `other`'s keys lie in the base model's low, medium and high region, by layer [L, 3].

    The regions are cut at the base model's quantiles, layer by layer (the paper's figure 4; that its cuts are the base
    model's is inferred from its grey reference line). Keys that equal a cut are shared out as the base's are, so that
    the base itself gives exactly the shares low, high - low and 1 - high.

    Args:
        base: the reference model's keys.
        other: keys of the model to describe, on the same tokens.
        low: lower cut, as a quantile.
        high: upper cut, as a quantile.
        of: cut by signed value (the paper's text) or by magnitude (for gated FFNs, whose keys have both signs).

    Raises:
        EvaluationError: the layers differ, or one side has counted nothing.
    """
    _same_layers(base, other)
    result = np.empty((len(base.layers), 3))
    for i, (reference, row) in enumerate(zip(base.by(of), other.by(of), strict=True)):
        first = _below(row, _cut(reference, low))
        second = _below(row, _cut(reference, high))
        result[i] = first, second - first, float(row.sum()) - second
    return result
