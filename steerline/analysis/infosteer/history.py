"""Curves over training, from a tracker's metric histories."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steerline.errors import EvaluationError

Floats = NDArray[np.float64]

# As a tracker keeps it: metric name -> (step, value) pairs.
Metrics = Mapping[str, Iterable[tuple[int, float]]]


@dataclass(frozen=True)
class Curve:
    """Values [S] at optimiser steps [S], ascending."""

    steps: NDArray[np.int64]
    values: Floats

    @classmethod
    def of(cls, points: Iterable[tuple[int, float]]) -> Curve:
        """From (step, value) pairs in any order; a step written twice keeps its last value (a resumed run's)."""
        kept = dict(points)
        steps = sorted(kept)
        return cls(np.array(steps, dtype=np.int64), np.array([kept[step] for step in steps], dtype=np.float64))

    def __len__(self) -> int:
        return len(self.steps)

    def smoothed(self, width: float) -> Curve:
        """Gaussian average over neighbours (standard deviation: `width` points), centred so that trends do not lag."""
        reach = min(len(self), int(4 * width) + 1)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)

        def spread(values: Floats) -> Floats:
            return np.convolve(values, kernel)[reach : reach + len(self)]

        return Curve(self.steps, spread(self.values) / spread(np.ones(len(self))))


@dataclass(frozen=True)
class EntropyHistory:
    """Key entropy in nats [S, L] at steps [S], for the numbered layers."""

    steps: NDArray[np.int64]
    layers: tuple[int, ...]
    entropy: Floats

    @property
    def effective_memories(self) -> Floats:
        """exp(entropy) [S, L]."""
        return np.exp(self.entropy)

    @classmethod
    def from_metrics(cls, metrics: Metrics, *, prefix: str = "train/key_entropy/") -> EntropyHistory:
        """From metrics named `<prefix>layer_00`, `<prefix>layer_01`, ...; steps that some layer lacks are left out.

        Raises:
            EvaluationError: there is no such metric, or no step at which every layer has a value.
        """
        curves: dict[int, Curve] = {}
        for name, points in metrics.items():
            match = re.fullmatch(re.escape(prefix) + r"layer_(\d+)", name)
            if match:
                curves[int(match.group(1))] = Curve.of(points)
        if not curves:
            raise EvaluationError(
                "the run has no key entropies",
                got=f"{len(metrics)} metrics, none named {prefix}layer_NN",
                fix="train with key entropies measured",
            )
        layers = tuple(sorted(curves))
        steps = sorted(set.intersection(*(set(curve.steps.tolist()) for curve in curves.values())))
        if not steps:
            raise EvaluationError("no step has a key entropy for every layer", got=f"layers {layers}")
        columns = [curves[layer].values[np.isin(curves[layer].steps, steps)] for layer in layers]
        return cls(np.array(steps, dtype=np.int64), layers, np.stack(columns, axis=1))
