"""InfoSteer's row functions as torch operators, and the autograd functions that put them into a graph.

Each operator picks its path by device: compiled kernels on CPUs, plain torch elsewhere (whose speed on GPUs was not
measured). As registered operators they are opaque to `torch.compile`. The autograd functions save what the FFN keeps
anyway (the keys themselves) and a few numbers per token. They are differentiable once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from steerline.steering import native, rows
from steerline.steering.rows import NORMS, Edit, EntropyRows, Norm


@torch.library.custom_op("steerline::select_keys", mutates_args=())
def select_keys(keys: Tensor, n: int, magnitude: bool, largest: bool) -> Tensor:
    """Indices [N, n] int32 of the n smallest or largest keys of each row of [N, F]. See `rows.select`."""
    if native.handles(keys):
        return native.select(keys, n, magnitude, largest)
    if keys.device.type == "cpu" or keys.dtype == torch.float64:
        return rows.select(keys, n, magnitude, largest)
    return rows.select_by_topk(keys, n, magnitude, largest)


@select_keys.register_fake
def _(keys: Tensor, n: int, *_: object) -> Tensor:
    return keys.new_empty((keys.shape[0], n), dtype=torch.int32)


@torch.library.custom_op("steerline::replace_keys", mutates_args=())
def replace_keys(
    keys: Tensor, indices: Tensor, signs: Tensor, strengths: Tensor, scale: float, absolute: bool, keep_sign: bool
) -> tuple[Tensor, Tensor]:
    """Edited keys [N, F] and means [N]. See `rows.replace`."""
    path = native.replace if native.handles(keys) else rows.replace
    edited, means = path(keys, indices, signs, strengths, Edit(scale, absolute, keep_sign, False))
    return edited, means


@replace_keys.register_fake
def _(keys: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(keys), keys.new_empty(keys.shape[0], dtype=rows.statistics_dtype(keys))


@torch.library.custom_op("steerline::replace_keys_backward", mutates_args=())
def replace_keys_backward(
    grad: Tensor,
    edited: Tensor,
    indices: Tensor,
    signs: Tensor,
    means: Tensor,
    strengths: Tensor,
    scale: float,
    absolute: bool,
    keep_sign: bool,
    detach_mean: bool,
) -> Tensor:
    """Gradient [N, F] with respect to the keys before the edit. See `rows.replace_backward`."""
    path = native.replace_backward if native.handles(grad) else rows.replace_backward
    edit = Edit(scale, absolute, keep_sign, detach_mean)
    return path(grad, edited, indices, signs, means, strengths, edit)


@replace_keys_backward.register_fake
def _(grad: Tensor, *_: object) -> Tensor:
    return torch.empty_like(grad)


@torch.library.custom_op("steerline::entropy_rows", mutates_args=())
def entropy_rows(keys: Tensor, weights: Tensor, norm: str) -> tuple[Tensor, Tensor, Tensor]:
    """Entropy, total and peak [N] of each row of [N, F]. See `rows.entropy`."""
    path = native.entropy if native.handles(keys) else rows.entropy
    entropy, total, peak = path(keys, weights, _norm(norm))
    return entropy, total, peak


@entropy_rows.register_fake
def _(keys: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    entropy = keys.new_empty(keys.shape[0], dtype=rows.statistics_dtype(keys))
    return entropy, torch.empty_like(entropy), torch.empty_like(entropy)


@torch.library.custom_op("steerline::entropy_rows_backward", mutates_args=())
def entropy_rows_backward(
    keys: Tensor, grad: Tensor | None, weights: Tensor, entropy: Tensor, total: Tensor, peak: Tensor, norm: str
) -> Tensor:
    """`grad` plus weights times the entropy's gradient, [N, F]. See `rows.entropy_backward`."""
    path = native.entropy_backward if native.handles(keys) else rows.entropy_backward
    return path(keys, grad, weights, EntropyRows(entropy, total, peak), _norm(norm))


@entropy_rows_backward.register_fake
def _(keys: Tensor, *_: object) -> Tensor:
    return torch.empty_like(keys)


def _norm(name: str) -> Norm:
    # Operators know no literal types.
    return NORMS[[str(norm) for norm in NORMS].index(name)]


class Picked(NamedTuple):
    """The keys to edit: indices [N, n] int32, and the signs [N, n] int8 that they count as having."""

    indices: Tensor
    signs: Tensor


def pick(keys: Tensor, n: int, magnitude: bool, largest: bool = False) -> Picked:
    """The n smallest or largest keys of each token of [N, F]; see `rows.select`."""
    indices = select_keys(keys, n, magnitude, largest)
    return Picked(indices, rows.signs_at(keys, indices))


class ReplaceKeys(torch.autograd.Function):
    """keys [..., F], picked indices and signs [N, n], strengths [S] -> edited keys [..., F].

    `on_backward` runs once in each backward pass, after saved tensors were read (that is, recomputed if need be).
    """

    @staticmethod
    def forward(
        ctx: Any,
        keys: Tensor,
        indices: Tensor,
        signs: Tensor,
        strengths: Tensor,
        edit: Edit,
        on_backward: Callable[[], None] | None,
    ) -> Tensor:
        flat = keys.reshape(-1, keys.shape[-1]).contiguous()
        edited, means = replace_keys(flat, indices, signs, strengths, *edit[:3])
        out: Tensor = edited.view(keys.shape)
        # The result, unlike the argument, is kept by the value projection: saving it takes no memory of its own.
        ctx.save_for_backward(out, indices, signs, means, strengths)
        ctx.edit = edit
        ctx.on_backward = on_backward
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        out, indices, signs, means, strengths = ctx.saved_tensors
        if ctx.on_backward is not None:
            ctx.on_backward()
        F = out.shape[-1]
        flat = grad.reshape(-1, F).contiguous()
        result: Tensor = replace_keys_backward(flat, out.view(-1, F), indices, signs, means, strengths, *ctx.edit)
        return result.view(out.shape), None, None, None, None, None


class TokenEntropy(torch.autograd.Function):
    """keys [..., F] -> entropy of each token [...] in nats."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, norm: Norm) -> Tensor:
        flat = keys.reshape(-1, keys.shape[-1]).contiguous()
        every = torch.ones(flat.shape[0], dtype=rows.statistics_dtype(keys), device=keys.device)
        entropy, total, peak = entropy_rows(flat, every, norm)
        ctx.save_for_backward(keys, entropy, total, peak)
        ctx.norm = norm
        value: Tensor = entropy.view(keys.shape[:-1])
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        keys, *statistics = ctx.saved_tensors
        flat = keys.reshape(-1, keys.shape[-1]).contiguous()
        weights = grads[0].reshape(-1).contiguous()
        result: Tensor = entropy_rows_backward(flat, None, weights, *statistics, ctx.norm)
        return result.view(keys.shape), None


class EntropySideLoss(torch.autograd.Function):
    """keys [..., F] -> the same keys, and the sum of w * H over the tokens; `token_weights` [N] holds w.

    Passing the keys through lets one kernel add the entropy's gradient to the one that comes back from the FFN. Only
    the keys are saved as tensors, whether or not weights are given: activation checkpointing recomputes them, and a
    recomputation need not know what was recorded the first time. Numbers per token stay with the first pass.
    """

    @staticmethod
    def forward(ctx: Any, keys: Tensor, token_weights: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(keys)
        ctx.set_materialize_grads(False)
        ctx.weights = token_weights
        ctx.norm = norm
        if token_weights is None:
            total = keys.new_zeros((), dtype=rows.statistics_dtype(keys))
            ctx.mark_non_differentiable(total)
            return keys, total
        flat = keys.reshape(-1, keys.shape[-1]).contiguous()
        ctx.statistics = entropy_rows(flat, token_weights, norm)
        return keys, ctx.statistics[0] @ token_weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, grad_total = grads
        (keys,) = ctx.saved_tensors
        if ctx.weights is None or grad_total is None:
            return grad, None, None
        F = keys.shape[-1]
        flat = keys.reshape(-1, F).contiguous()
        before = None if grad is None else grad.reshape(-1, F).contiguous()
        weights = ctx.weights * grad_total
        result: Tensor = entropy_rows_backward(flat, before, weights, *ctx.statistics, ctx.norm)
        return result.view(keys.shape), None, None


def replaced(
    keys: Tensor, picked: Picked, strengths: Tensor, edit: Edit, on_backward: Callable[[], None] | None = None
) -> Tensor:
    """Keys [..., F] with the picked ones edited; see `ReplaceKeys`."""
    result: Tensor = ReplaceKeys.apply(keys, *picked, strengths, edit, on_backward)  # type: ignore[no-untyped-call]
    return result


def token_entropy(keys: Tensor, norm: Norm) -> Tensor:
    """Entropy of each token [...] of keys [..., F]; see `TokenEntropy`."""
    result: Tensor = TokenEntropy.apply(keys, norm)  # type: ignore[no-untyped-call]
    return result


def entropy_side_loss(keys: Tensor, token_weights: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
    """The keys, and the weighted sum of their tokens' entropies; see `EntropySideLoss`."""
    passed, total = EntropySideLoss.apply(keys, token_weights, norm)  # type: ignore[no-untyped-call]
    return passed, total
