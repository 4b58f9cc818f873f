"""Constants that make side losses pull alike: from the gradient norms of all terms on the first batch.

For a side loss t, of which the spec's strength and schedule are left out, the constant is

    c_t = min(largest, |gradient of the base loss| / |gradient of t|)

with gradients of means over the whole first optimiser step, all workers together, with respect to all trained weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from steerline.config.training import BalanceSpec
from steerline.data.batch import Batch
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel, Parts
from steerline.training.workers import Workers

_BASE = "ce"


def find_balance(
    objective: ObjectiveModel, spec: BalanceSpec, batches: Sequence[Batch], workers: Workers
) -> dict[str, float]:
    """The constant of each side loss, by name. Every worker calls this, before DeepSpeed takes the weights over.

    Takes a forward and a backward pass over the batches for each term; the weights stay as they are.

    Args:
        objective: whole on every worker; moved to the device.
        spec: the largest constant.
        batches: this worker's micro-batches of the first step.
        workers: all of them.
    """
    objective.to(workers.device)
    objective.train()
    normaliser = Normaliser.over(batches, workers)
    with objective.steering.at_full_strength():
        names = sorted(objective.side_losses())
        norms = {name: _norm(objective, name, batches, normaliser, workers) for name in (_BASE, *names)}
    return {name: min(spec.largest, norms[_BASE] / max(norms[name], math.ulp(0.0))) for name in names}


def _norm(
    objective: ObjectiveModel, name: str, batches: Sequence[Batch], normaliser: Normaliser, workers: Workers
) -> float:
    for batch in batches:
        value = _mean(objective.parts(batch.to(workers.device), normaliser), name)
        if value.requires_grad:
            torch.autograd.backward(value)
    squares = torch.zeros((), dtype=torch.float64)
    for parameter in objective.parameters():
        if parameter.requires_grad:
            squares += _square(parameter, workers)
            parameter.grad = None
    return math.sqrt(float(squares))


def _mean(parts: Parts, name: str) -> Tensor:
    if name == _BASE:
        return parts.base
    return parts.side[name].sum / parts.side[name].denominator


def _square(parameter: nn.Parameter, workers: Workers) -> Tensor:
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return workers.sum(gradient).square().sum()
