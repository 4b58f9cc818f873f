"""SAFR's importance term: how far each token's vector interferes with those of the other tokens of its sequence.

Legend: y_i is token i's vector as the variant reads it (centred, 0 on padding, of length 1 for "cosine"), n_i what it
is divided by (1e-5 + |y_i|; 1 for "cosine"), P_ij = y_i . y_j, and

    root_i = sqrt(sum over j != i of P_ij^2),    interference_i = root_i / n_i.

This is the authors' sqrt(sum (xhat_i . x_j)^2) with xhat_i = x_i / (1e-5 + |x_i|). P is symmetric, so the gradient
needs one product: d/dy_m of sum b_i root_i = sum over j != m of (c_m + c_j) P_mj y_j, with c_i = b_i / root_i.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from steerline.steering.rows import statistics_dtype

Variant = Literal["reference", "masked", "cosine"]
VARIANTS: tuple[Variant, ...] = ("reference", "masked", "cosine")

_EPSILON = 1e-5
"""The authors' guard against division by 0."""
_MOMENT_RATIO = 4
"""Sequences longer than this many vector widths go by second moments; shorter ones are faster, or as fast, by pairs."""
_FAINT = 1e-30
"""Roots up to here pass no gradient on: dividing by them could overflow."""
_ROUNDING = 1e-13
"""Of a sum in float64, relative to it."""


def importance_sum(
    x: Tensor, mask: Tensor, weights: Tensor | None = None, *, variant: Variant = "masked", center: bool = False
) -> Tensor:
    """Sum over valid tokens of w_i * interference_i / sqrt(E), differentiable in `x` and `weights`.

    Its denominator is the number of valid tokens, or the sum of their weights. Under "reference" every position is
    valid, whatever the mask says. The gradient is analytic; only `x` and a number per token are kept for it. A token
    that interferes with none has gradient 0 (the root's slope there is not defined).

    Args:
        x: [B, T, E], floating point. Sums are taken in float32 (float64 for float64).
        mask: [B, T] bool, the tokens that are not padding.
        weights: [B, T], of each token; none weighs all alike.
        variant: "reference" and "masked" as above; "cosine" normalises both vectors.
        center: first subtract the mean over the valid tokens of each sequence.

    Returns:
        A scalar.
    """
    valid = torch.ones_like(mask) if variant == "reference" else mask
    total: Tensor = ImportanceSum.apply(x, valid, weights, variant == "cosine", center)  # type: ignore[no-untyped-call]
    return total


class ImportanceSum(torch.autograd.Function):
    """Vectors [B, T, E], valid tokens [B, T], weights [B, T] or none -> the weighted sum of their interferences."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, valid: Tensor, weights: Tensor | None, cosine: bool, center: bool) -> Tensor:
        vectors = _read(x, valid, cosine, center)
        root = roots(vectors.y)
        interference = root / _scaled(vectors.divisor, x)
        ctx.save_for_backward(x, valid, weights, root)
        ctx.cosine, ctx.center = cosine, center
        if weights is not None:
            interference = interference * torch.where(valid, weights, 0).to(interference.dtype)
        return interference.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, valid, weights, root = ctx.saved_tensors
        vectors = _read(x, valid, ctx.cosine, ctx.center)
        slope = grads[0] / _scaled(vectors.divisor, x)
        by_weight = (slope * root).to(weights.dtype) if weights is not None and ctx.needs_input_grad[2] else None
        if not ctx.needs_input_grad[0]:
            return None, None, by_weight, None, None
        if weights is not None:
            slope = slope * torch.where(valid, weights, 0).to(slope.dtype)
        grad = pull(vectors.y, torch.where(root > _FAINT, slope / torch.where(root > _FAINT, root, 1), 0))
        length = torch.where(vectors.length > 0, vectors.length, 1)
        if ctx.cosine:
            grad -= vectors.y * (grad * vectors.y).sum(-1, keepdim=True)
            grad /= length[..., None]
        else:
            grad -= vectors.y * (slope * root / (vectors.divisor * length))[..., None]
        grad.masked_fill_(~valid[..., None], 0)
        if ctx.center:
            count = valid.sum(-1).clamp(min=1)[:, None, None]
            grad -= grad.sum(1, keepdim=True) / count
            grad.masked_fill_(~valid[..., None], 0)
        return grad.to(x.dtype), None, by_weight, None, None


class _Vectors(NamedTuple):
    y: Tensor
    """[B, T, E]"""
    divisor: Tensor
    """n [B, T]"""
    length: Tensor
    """[B, T], of the vectors before they were normalised."""


def _read(x: Tensor, valid: Tensor, cosine: bool, center: bool) -> _Vectors:
    y = x.to(statistics_dtype(x)).masked_fill(~valid[..., None], 0)
    if center:
        y -= y.sum(1, keepdim=True) / valid.sum(-1).clamp(min=1)[:, None, None]
        y.masked_fill_(~valid[..., None], 0)
    length = torch.linalg.vector_norm(y, dim=-1)
    if not cosine:
        return _Vectors(y, length + _EPSILON, length)
    y /= torch.where(length > 0, length, 1)[..., None]
    return _Vectors(y, torch.ones_like(length), length)


def _scaled(divisor: Tensor, x: Tensor) -> Tensor:
    return divisor * math.sqrt(max(1, x.shape[-1]))


def roots(y: Tensor) -> Tensor:
    """root [B, T] of vectors [B, T, E]."""
    return roots_by_moments(y) if _long(y) else roots_by_pairs(y)


def pull(y: Tensor, c: Tensor) -> Tensor:
    """sum over j != m of (c_m + c_j) P_mj y_j, [B, T, E], for every m; `c` is [B, T]."""
    return pull_by_moments(y, c) if _long(y) else pull_by_pairs(y, c)


def _long(y: Tensor) -> bool:
    return y.shape[1] > _MOMENT_RATIO * y.shape[2]


def roots_by_pairs(y: Tensor) -> Tensor:
    """`roots` through P, of which a few rows, from the diagonal to the right, exist at a time."""
    total = torch.zeros_like(y[..., 0])
    for batch, start, stop in _blocks(y):
        part, out = y[batch], total[batch]
        products = part[:, start:stop] @ part[:, start:].mT
        products.diagonal(dim1=-2, dim2=-1).zero_()
        products.square_()
        out[:, start:stop] += products.sum(-1)
        out[:, stop:] += products[..., stop - start :].sum(-2)
    return total.sqrt_()


def pull_by_pairs(y: Tensor, c: Tensor) -> Tensor:
    """`pull` through P, block by block as in `roots_by_pairs`."""
    grad = torch.zeros_like(y)
    for batch, start, stop in _blocks(y):
        part, weight, out = y[batch], c[batch], grad[batch]
        products = part[:, start:stop] @ part[:, start:].mT
        products.diagonal(dim1=-2, dim2=-1).zero_()
        products *= weight[:, start:stop, None] + weight[:, None, start:]
        out[:, start:stop] += products @ part[:, start:]
        if stop < y.shape[1]:
            out[:, stop:] += products[..., stop - start :].mT @ part[:, start:stop]
    return grad


def _blocks(y: Tensor) -> Iterator[tuple[slice, int, int]]:
    """Batch rows and rows of P that are worked on at once: what fits the cache on CPUs, more on other devices."""
    B, T, _ = y.shape
    height, numbers = (256, 1 << 20) if y.device.type == "cpu" else (2048, 1 << 26)
    rows = max(1, numbers // max(1, T * min(T, height)))
    for first in range(0, B, rows):
        for start in range(0, T, height):
            yield slice(first, first + rows), start, min(start + height, T)


def roots_by_moments(y: Tensor) -> Tensor:
    """`roots` without any T x T product: root_i^2 = y_i^T S y_i - |y_i|^4 with S = sum_j y_j y_j^T, an E x E matrix.

    In float64, because the difference of two near numbers is taken; what may be its rounding counts as 0.
    """
    wide = y.double()
    own = wide.square().sum(-1).square_()
    total = ((wide @ (wide.mT @ wide)) * wide).sum(-1)
    difference = total - own
    return difference.masked_fill_(difference <= _ROUNDING * own, 0).sqrt_().to(y.dtype)


def pull_by_moments(y: Tensor, c: Tensor) -> Tensor:
    """`pull` by moments: c_m S y_m + T y_m - 2 c_m |y_m|^2 y_m with T = sum_j c_j y_j y_j^T."""
    wide, weight = y.double(), c.double()[..., None]
    weighted = weight * wide
    grad = weighted @ (wide.mT @ wide) + wide @ (wide.mT @ weighted)
    grad -= 2 * wide.square().sum(-1, keepdim=True) * weighted
    return grad.to(y.dtype)
