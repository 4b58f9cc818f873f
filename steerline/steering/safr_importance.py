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
    return vectors_sum(x, None if variant == "reference" else mask, weights, variant == "cosine", center, False)


def vectors_sum(
    x: Tensor, valid: Tensor | None, weights: Tensor | None, cosine: bool, center: bool, early: bool
) -> Tensor:
    """`importance_sum` over the tokens in `valid`, all if none.

    `early` makes the gradient in the forward pass, which then shares P with the value: a third less work for [B, T, E]
    more that waits for the backward pass.
    """
    total: Tensor = ImportanceSum.apply(x, valid, weights, cosine, center, early)  # type: ignore[no-untyped-call]
    return total


class ImportanceSum(torch.autograd.Function):
    """Vectors [B, T, E], valid tokens [B, T], weights [B, T] or none -> the weighted sum of their interferences.

    A gradient made early is handed out once; a graph that is walked again computes it again.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, valid: Tensor | None, weights: Tensor | None, cosine: bool, center: bool, early: bool
    ) -> Tensor:
        reading = _Reading(valid, weights, cosine, center)
        vectors = _read(x, reading)
        slope = _slope(vectors, reading)
        pulled = None
        if early and ctx.needs_input_grad[0] and not _long(x):
            root, pulled = roots_and_pull(vectors.y, slope)
        else:
            root = roots(vectors.y)
        ctx.save_for_backward(x, valid, weights, root)
        ctx.cosine, ctx.center = cosine, center
        ctx.grad = None if pulled is None else _to_input(pulled, vectors, slope * root, reading)
        return (slope * root).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, valid, weights, root = ctx.saved_tensors
        grad, ctx.grad = ctx.grad, None
        needs_x, needs_weights = ctx.needs_input_grad[0], weights is not None and ctx.needs_input_grad[2]
        reading = _Reading(valid, weights, ctx.cosine, ctx.center)
        by_weight = None
        if needs_weights or (needs_x and grad is None):
            vectors = _read(x, reading)
            if needs_weights:
                by_weight = (grads[0] * root * _slope(vectors, reading._replace(weights=None))).to(weights.dtype)
            if needs_x and grad is None:
                slope = _slope(vectors, reading)
                grad = _to_input(pull(vectors.y, _ratio(slope, root)), vectors, slope * root, reading)
        return grad.mul_(grads[0]).to(x.dtype) if needs_x else None, None, by_weight, None, None, None


class _Reading(NamedTuple):
    valid: Tensor | None
    """[B, T]; all if none."""
    weights: Tensor | None
    """[B, T]; 1 if none."""
    cosine: bool
    center: bool


class _Vectors(NamedTuple):
    y: Tensor
    """[B, T, E]"""
    divisor: Tensor
    """n [B, T]"""
    length: Tensor
    """[B, T], of the vectors before they were normalised."""


def _read(x: Tensor, reading: _Reading) -> _Vectors:
    valid = reading.valid
    y = x.to(statistics_dtype(x))
    if valid is not None:
        y = y.masked_fill(~valid[..., None], 0)
    if reading.center:
        y = _centred(y, valid)
    length = torch.linalg.vector_norm(y, dim=-1)
    if not reading.cosine:
        return _Vectors(y, length + _EPSILON, length)
    return _Vectors(y / torch.where(length > 0, length, 1)[..., None], torch.ones_like(length), length)


def _centred(y: Tensor, valid: Tensor | None) -> Tensor:
    """y [B, T, E] (0 outside `valid`) minus its mean over the valid tokens of each sequence; its own adjoint."""
    if valid is None:
        return y - y.mean(1, keepdim=True)
    mean = y.sum(1, keepdim=True) / valid.sum(-1).clamp(min=1)[:, None, None]
    return (y - mean).masked_fill_(~valid[..., None], 0)


def _slope(vectors: _Vectors, reading: _Reading) -> Tensor:
    """d sum / d root, [B, T]."""
    slope = 1 / (vectors.divisor * math.sqrt(max(1, vectors.y.shape[-1])))
    if reading.weights is not None:
        slope = slope * reading.weights.to(slope.dtype)
    return slope if reading.valid is None else slope.masked_fill(~reading.valid, 0)


def _to_input(grad: Tensor, vectors: _Vectors, terms: Tensor, reading: _Reading) -> Tensor:
    """From the gradient for y through P (overwritten) to that for x; `terms` [B, T] are those of the sum."""
    length = torch.where(vectors.length > 0, vectors.length, 1)
    if reading.cosine:
        grad -= vectors.y * (grad * vectors.y).sum(-1, keepdim=True)
        grad /= length[..., None]
    else:
        grad.addcmul_(vectors.y, (terms / (vectors.divisor * length))[..., None], value=-1)
    if reading.valid is not None:
        grad.masked_fill_(~reading.valid[..., None], 0)
    return _centred(grad, reading.valid) if reading.center else grad


def _ratio(slope: Tensor, root: Tensor) -> Tensor:
    """c = slope / root, 0 where the root is."""
    return torch.where(root > _FAINT, slope / torch.where(root > _FAINT, root, 1), 0)


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
    for batch in _batches(y):
        for start, stop in _heights(y):
            _add_squares(total[batch], _products(y[batch], start, stop), start, stop)
    return total.sqrt_()


def pull_by_pairs(y: Tensor, c: Tensor) -> Tensor:
    """`pull` through P, block by block as in `roots_by_pairs`."""
    grad = torch.zeros_like(y)
    for batch in _batches(y):
        for start, stop in _heights(y):
            _add_pull(grad[batch], _products(y[batch], start, stop), y[batch], c[batch], start, stop)
    return grad


def roots_and_pull(y: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """`roots`, and `pull` with c = slope / root, through one P for both: a triangle of it exists at a time."""
    root, grad = torch.zeros_like(y[..., 0]), torch.zeros_like(y)
    for batch in _batches(y):
        blocks = [(_products(y[batch], start, stop), start, stop) for start, stop in _heights(y)]
        for block in blocks:
            _add_squares(root[batch], *block)
        c = _ratio(slope[batch], root[batch].sqrt_())
        for products, start, stop in blocks:
            _add_pull(grad[batch], products, y[batch], c, start, stop)
    return root, grad


def _products(y: Tensor, start: int, stop: int) -> Tensor:
    """Rows start to stop of P, from the diagonal to the right; 0 on it."""
    rows, columns = y[:, start:stop], y[:, start:]
    products = y.new_empty(y.shape[0], stop - start, columns.shape[1])
    for panel, out in zip(_panels(columns, 1), _panels(products, 2), strict=True):
        out.baddbmm_(rows, panel.mT, beta=0)
    products.diagonal(dim1=-2, dim2=-1).zero_()
    return products


def _panels(x: Tensor, dim: int) -> tuple[Tensor, ...]:
    """What is multiplied at once along the longer side: few enough on CPUs that they stay in the cache."""
    return torch.split(x, 512 if x.device.type == "cpu" else max(1, x.shape[dim]), dim)


def _add_squares(total: Tensor, products: Tensor, start: int, stop: int) -> None:
    squares = products.square()
    total[:, start:stop] += squares.sum(-1)
    total[:, stop:] += squares[..., stop - start :].sum(-2)


def _add_pull(grad: Tensor, products: Tensor, y: Tensor, c: Tensor, start: int, stop: int) -> None:
    products *= c[:, start:stop, None] + c[:, None, start:]
    grad[:, start:stop].baddbmm_(products, y[:, start:])
    if stop < y.shape[1]:
        grad[:, stop:].baddbmm_(products[..., stop - start :].mT, y[:, start:stop])


def _heights(y: Tensor) -> Iterator[tuple[int, int]]:
    """Rows of P that are worked on at once: what fits the cache on CPUs, more on other devices."""
    T, height = y.shape[1], 256 if y.device.type == "cpu" else 2048
    return ((start, min(start + height, T)) for start in range(0, T, height))


def _batches(y: Tensor) -> Iterator[slice]:
    """Batch rows that are worked on at once, by the same measure."""
    B, T, _ = y.shape
    rows = max(1, (1 << 20 if y.device.type == "cpu" else 1 << 26) // max(1, T * T))
    return (slice(first, first + rows) for first in range(0, B, rows))


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
