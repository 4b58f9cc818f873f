"""Sums over the micro-batches of a step and over all workers, and the metrics they make."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from steerline.training.base_loss import LossTerm
from steerline.training.objective import ObjectiveOutput
from steerline.training.workers import Workers


class StepSums:
    """What the micro-batches of one step add up to.

    Args:
        outputs: this worker's micro-batches; every worker has the same terms and layers.
        workers: all of them. One all-reduce.
    """

    def __init__(self, outputs: Sequence[ObjectiveOutput], workers: Workers) -> None:
        terms = sorted({name for output in outputs for name in output.terms})
        layers = sorted({layer for output in outputs for layer in output.layer_entropy})
        rows = [torch.stack([output.total.detach().double() for output in outputs]).sum().reshape(1)]
        rows += [_added([output.terms[name] for output in outputs if name in output.terms]) for name in terms]
        rows += [_added([o.layer_entropy[layer] for o in outputs if layer in o.layer_entropy]) for layer in layers]
        total, *values = workers.sum(torch.cat([row.cpu() for row in rows])).tolist()
        means = [_mean(*pair) for pair in zip(values[::2], values[1::2], strict=True)]
        self.loss: float = total
        self.terms = dict(zip(terms, means[: len(terms)], strict=True))
        self.layer_entropy = dict(zip(layers, means[len(terms) :], strict=True))

    @property
    def is_finite(self) -> bool:
        """Whether every loss is a number; the same answer on every worker."""
        return math.isfinite(self.loss) and all(math.isfinite(value) for value in self.terms.values())

    def metrics(self, prefix: str) -> dict[str, float]:
        """The metrics under `prefix`: loss, its terms, key entropy (nats) and effective memories of each layer."""
        names = {"ce": "loss_ce", "correct": "accuracy"}
        values = {f"{prefix}/loss": self.loss}
        values |= {f"{prefix}/{names.get(name, name)}": value for name, value in self.terms.items()}
        for layer, entropy in self.layer_entropy.items():
            values[f"{prefix}/key_entropy/layer_{layer:02d}"] = entropy
            values[f"{prefix}/effective_memories/layer_{layer:02d}"] = math.exp(entropy)
        return values


def _added(terms: Sequence[LossTerm]) -> torch.Tensor:
    return torch.stack([torch.stack([term.sum.double().cpu(), term.count.double().cpu()]) for term in terms]).sum(0)


def _mean(total: float, count: float) -> float:
    return total / count if count else 0.0
