"""The counts that turn sums of losses into a mean over the whole optimiser step, whoever computed which part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from steerline.data.batch import Batch
from steerline.training.workers import Workers


@dataclass(frozen=True)
class Normaliser:
    """How many tokens one optimiser step covers, over all its micro-batches and all workers.

    A micro-batch contributes `sum of its tokens' losses / targets`. The sum of those contributions over micro-batches
    and workers is the mean over the step's tokens: it depends neither on the split, nor on padding or packing.
    """

    targets: float
    """Tokens that carry the loss."""
    tokens: float
    """Tokens that are not padding."""
    rows: float
    """Rows of the batches (several examples each when packed)."""
    positions: float
    """Tokens and padding, as many as each micro-batch is wide: what the reference formulas of SAFR are means over."""

    @classmethod
    def over(cls, batches: Sequence[Batch], workers: Workers) -> Normaliser:
        """Count this worker's micro-batches of one step, and add up all workers' (one all-reduce)."""
        local = torch.zeros(4, dtype=torch.float64)
        for batch in batches:
            rows, tokens = len(batch.sample_ids), int(batch.token_mask.sum())
            local += torch.tensor([batch.num_targets, tokens, rows, batch.input_ids.numel()])
        targets, tokens, rows, positions = workers.sum(local).tolist()
        # A step without any target has loss 0, not 0 / 0.
        return cls(max(targets, 1.0), max(tokens, 1.0), rows, positions)

    def count(self, per: Literal["tokens", "positions"]) -> float:
        """The denominator of a mean over tokens, or over all positions."""
        return self.tokens if per == "tokens" else self.positions
