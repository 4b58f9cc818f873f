"""What every base loss looks like to the objective: sums and counts of one micro-batch, and hooks that come off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from steerline.data.batch import Batch


@dataclass(frozen=True)
class LossTerm:
    """One term of the loss, or a count beside it, before its mean is taken; detached."""

    sum: Tensor
    """Scalar: the sum over tokens, or rows (nats for losses)."""
    count: Tensor
    """Scalar: the number of values summed; `sum / count`, each summed over micro-batches and workers, is the mean."""


@dataclass(frozen=True)
class BaseResult:
    """The base loss of one micro-batch."""

    sum: Tensor
    """Scalar in the graph: the summed cross entropy (nats)."""
    count: int
    """Targets summed; the same positions that `Normaliser.targets` counts."""
    extra: dict[str, LossTerm] = field(default_factory=dict)
    """Further means by name, e.g. `correct`: the rows classified rightly. They are measured, not minimised."""


class BaseLoss(Protocol):
    """A model's own loss, to which side losses are added. Calling it runs the model once."""

    def __call__(self, batch: Batch) -> BaseResult: ...

    def detach(self) -> None:
        """Takes every hook off the model again."""


def term(total: Tensor, count: float) -> LossTerm:
    """A term of `count` values that add up to `total`."""
    return LossTerm(total.detach(), torch.tensor(float(count)))
