"""The summed cross entropy of a language model, without a float32 copy of all its logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Float32 elements of logits that exist at a time: 64 MiB.
_CHUNK_ELEMENTS = 16 * 2**20


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over tokens of -log softmax(logits)[target], in nats.

    The softmax is taken in float32 (float64 for float64 logits) over a few tokens at a time, so beside the logits in
    their own precision, and their gradient, nothing of size [N, V] exists.

    Args:
        logits: [N, V].
        targets: [N] int64.

    Returns:
        A scalar, float32 or float64; 0 for no tokens.
    """
    total: Tensor = _CrossEntropySum.apply(logits, targets)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        normalisers = logits.new_empty(len(targets), dtype=dtype)
        total = logits.new_zeros((), dtype=dtype)
        for rows in _chunks(logits):
            wide = logits[rows].to(dtype)
            normalisers[rows] = torch.logsumexp(wide, dim=-1)
            chosen = wide.gather(1, targets[rows, None]).squeeze(1)
            total += (normalisers[rows] - chosen).sum()
        ctx.save_for_backward(logits, targets, normalisers)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None]:
        logits, targets, normalisers = ctx.saved_tensors
        grad = torch.empty_like(logits)
        for rows in _chunks(logits):
            wide = (logits[rows] - normalisers[rows, None]).exp_()
            wide.scatter_add_(1, targets[rows, None], -torch.ones_like(wide[:, :1]))
            grad[rows] = wide.mul_(grad_total)
        return grad, None


def _chunks(logits: Tensor) -> list[slice]:
    step = max(1, _CHUNK_ELEMENTS // max(1, logits.shape[1]))
    return [slice(start, start + step) for start in range(0, len(logits), step)]
