"""Side losses as branches at a site: the activation goes on untouched, its gradient gets one more share.

Both functions take a `loss` that maps activations to a scalar and return that scalar. They differ in what waits for
the backward pass. Neither hands tensors of the loss to activation checkpointing, which computes a site again without
knowing what was recorded the first time and must find the same tensors saved. Both are differentiable once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from steerline.errors import SteeringError
from steerline.steering.rows import statistics_dtype

Loss = Callable[..., Tensor]


class _FromSaved(torch.autograd.Function):
    """loss or none, x, weights or none -> loss(x, weights), 0 without a loss. Saves x in either case."""

    @staticmethod
    def forward(ctx: Any, loss: Loss | None, x: Tensor, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)
        ctx.loss = loss
        # Numbers per token, and known before the first pass: a recomputation has none.
        ctx.weights = None if weights is None else weights.detach()
        if loss is None:
            total = x.new_zeros((), dtype=statistics_dtype(x))
            ctx.mark_non_differentiable(total)
            return total
        return loss(x, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        if ctx.loss is None or grads[0] is None:
            return None, None, None
        _, needs_x, needs_weights = ctx.needs_input_grad
        with torch.enable_grad():
            x = x.detach().requires_grad_(needs_x)
            weights: Tensor | None = None if ctx.weights is None else ctx.weights.requires_grad_(needs_weights)
            total = ctx.loss(x, weights)
        wanted = [x] if needs_x else []
        if weights is not None and needs_weights:
            wanted.append(weights)
        found = iter(torch.autograd.grad(total, wanted, grads[0]))
        return None, next(found) if needs_x else None, next(found) if needs_weights else None


class _FromKept(torch.autograd.Function):
    """loss, activations -> loss(*activations). Keeps the gradients, which it takes at once, and saves nothing."""

    @staticmethod
    def forward(ctx: Any, loss: Loss, *activations: Tensor) -> Tensor:
        wanted = [number for number, needed in enumerate(ctx.needs_input_grad[1:]) if needed]
        # The hooks of activation checkpointing, if any, are not to see the loss's own graph, which ends here.
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_same, _same):
            leaves = [tensor.detach().requires_grad_(n in wanted) for n, tensor in enumerate(activations)]
            total = loss(*leaves)
            found = torch.autograd.grad(total, [leaves[n] for n in wanted])
        ctx.gradients = [None] * len(leaves)
        for number, gradient in zip(wanted, found, strict=True):
            ctx.gradients[number] = gradient
        return total.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept, ctx.gradients = ctx.gradients, None
        if kept is None:
            raise SteeringError(
                "the gradient of a side loss was handed out already",
                got="a second backward pass through the same forward pass",
                fix="run the forward pass again",
            )
        return None, *(None if gradient is None else gradient * grads[0] for gradient in kept)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def from_saved(loss: Loss | None, x: Tensor, weights: Tensor | None) -> Tensor:
    """`loss(x, weights)`, which the backward pass computes again from x. Keeps nothing but x, which layers keep anyway.

    Args:
        loss: none is what stands here when activation checkpointing computes the site again.
        x: the activation.
        weights: [B, T], differentiable too; none has no gradient.
    """
    total: Tensor = _FromSaved.apply(loss, x, weights)  # type: ignore[no-untyped-call]
    return total


def from_kept(loss: Loss, *activations: Tensor) -> Tensor:
    """`loss(*activations)`, computed once. A gradient the size of each activation waits for the backward pass.

    Raises:
        SteeringError: in a second backward pass through the same graph.
    """
    total: Tensor = _FromKept.apply(loss, *activations)  # type: ignore[no-untyped-call]
    return total
