"""The counts that turn sums of losses into a mean over the whole optimiser step, whoever computed which part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    @classmethod
    def over(cls, batches: Sequence[Batch], workers: Workers) -> Normaliser:
        """Count this worker's micro-batches of one step, and add up all workers' (one all-reduce)."""
        local = torch.zeros(3, dtype=torch.float64)
        for batch in batches:
            local += torch.tensor([batch.num_targets, int(batch.token_mask.sum()), len(batch.sample_ids)])
        targets, tokens, rows = workers.sum(local).tolist()
        # A step without any target has loss 0, not 0 / 0.
        return cls(max(targets, 1.0), max(tokens, 1.0), rows)
