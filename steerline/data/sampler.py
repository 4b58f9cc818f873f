"""Which rows each optimiser step sees: a function of the step alone, so that nothing but the step needs saving."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steerline.errors import DataError

_KEPT_EPOCHS = 4


class GlobalSampler:
    """The order in which a run sees its rows, the same for every number of workers.

    Each epoch is a permutation of all rows, drawn from a counter-based generator keyed by (seed, epoch). Epochs follow
    one another without a gap: a step at the border takes the end of one and the beginning of the next.

    Args:
        num_rows: rows of the data set.
        global_batch_size: rows of one optimiser step, over all workers.
        seed: seed of the permutations.
        lengths: tokens of each row. With it, rows of like length share a micro-batch, which saves padding; which rows
            a step holds does not depend on it.

    Raises:
        DataError: there are no rows.
    """

    def __init__(self, num_rows: int, global_batch_size: int, seed: int, lengths: Sequence[int] | None = None) -> None:
        if num_rows < 1:
            raise DataError("there are no rows to train on", got=num_rows, expected="at least one")
        self.num_rows = num_rows
        self.global_batch_size = global_batch_size
        self.seed = seed
        self._lengths = None if lengths is None else np.asarray(lengths, dtype=np.int64)
        self._drawn: dict[int, NDArray[np.int64]] = {}

    def num_steps(self, num_epochs: float) -> int:
        """Optimiser steps after which every row was seen at least `num_epochs` times (rounded up to a whole step)."""
        return max(1, math.ceil(round(self.num_rows * num_epochs, 6) / self.global_batch_size))

    def step(self, index: int) -> list[int]:
        """The `global_batch_size` rows of optimiser step `index` (from 0)."""
        first = index * self.global_batch_size
        positions = np.arange(first, first + self.global_batch_size)
        epochs, offsets = np.divmod(positions, self.num_rows)
        return [int(self._permutation(int(epoch))[offset]) for epoch, offset in zip(epochs, offsets, strict=True)]

    def shard(self, step: int, rank: int, world_size: int, micro_batch_size: int) -> list[list[int]]:
        """The micro-batches of one worker for one step.

        Every worker gets the same number of them, and over all workers they hold each row of the step exactly once.
        One is empty only when the rows do not go round.
        """
        rows = self.step(step)
        lengths = self._lengths
        if lengths is not None:
            rows.sort(key=lambda row: (-int(lengths[row]), row))
        count = math.ceil(len(rows) / (world_size * micro_batch_size))
        groups: list[list[int]] = [[] for _ in range(count)]
        for number, group in enumerate(np.array_split(np.arange(len(rows)), count)):
            # Dealing goes on from group to group, so that no worker is always the one left short.
            groups[number] = [rows[i] for i in group if i % world_size == rank]
        return groups

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._drawn:
            if len(self._drawn) >= _KEPT_EPOCHS:
                self._drawn.pop(min(self._drawn))
            key = np.array([self.seed % 2**64, epoch], dtype=np.uint64)
            generator = np.random.Generator(np.random.Philox(key=key))
            self._drawn[epoch] = generator.permutation(self.num_rows)
        return self._drawn[epoch]
