"""How far the attention rows of tokens that attend to each other coincide: SAFR's interaction, on dense matrices.

A is a stack of attention matrices [N, T, T], a row per query, zero where nothing is attended to. Every function returns
one value per row [N, T] and, if asked, the gradient [N, T, T] of the sum of these values with respect to A. It is made
on the way because it shares its matrix products with the value.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 256
"""Height of the blocks in which triangles and symmetric products are worked through, on matrices longer than this."""


def overlap(A: Tensor, row_scale: Tensor | None, want_grad: bool) -> tuple[Tensor, Tensor | None]:
    """overlap_i = d_i * (sum over k != i of A_ik G_ik) with G = A A^T; `row_scale` [N, T] holds d, 1 if none.

    With a_i for row i as a vector, sum_k A_ik G_ik = a_i^T A a_i = a_i . (A (A + A^T))_i / 2. The same product is a
    part of the gradient D A (A + A^T) + A^T D A, whose rest is symmetric; d counts as a constant there.
    """
    product = A @ _plus_transpose(A)
    diagonal = A.diagonal(dim1=-2, dim2=-1)
    squared = torch.linalg.vector_norm(A, dim=-1).square_()
    value = torch.linalg.vecdot(A, product) / 2 - diagonal * squared
    if row_scale is not None:
        value *= row_scale
        product *= row_scale[..., None]
    if not want_grad:
        return value, None
    scaled = A if row_scale is None else A * row_scale[..., None]
    _add_gram(product, scaled, A)
    scale = 1 if row_scale is None else row_scale
    product.addcmul_(A, (scale * diagonal)[..., None], value=-2)
    product.diagonal(dim1=-2, dim2=-1).sub_(scale * squared)
    return value, product


def _plus_transpose(A: Tensor) -> Tensor:
    if A.device.type != "cpu" or A.shape[-1] <= _BLOCK:
        return A + A.mT
    total = torch.empty_like(A)
    for matrix, out in zip(A, total, strict=True):
        out.copy_(matrix.t())  # torch transposes single matrices block by block, which stacks and sums are denied
    return total.add_(A)


def _add_gram(total: Tensor, scaled: Tensor, A: Tensor) -> None:
    """Adds A^T D A, with `scaled` = D A; being symmetric, one triangle of blocks is computed."""
    T = A.shape[-1]
    if T <= _BLOCK:
        total.baddbmm_(scaled.mT, A)
        return
    for start in range(0, T, _BLOCK):
        stop = min(start + _BLOCK, T)
        block = scaled[..., start:stop].mT @ A[..., start:]
        total[..., start:stop, start:] += block
        total[..., stop:, start:stop] += block[..., stop - start :].mT


def causal_overlap(A: Tensor, want_grad: bool) -> tuple[Tensor, Tensor | None]:
    """overlap_i = sum over k < i of A_ik G_ik, for lower triangular A, each pair on its common support.

    Row k reaches no further than key k, so row i counts up to there alone, renormalised:
    G_ik = (sum over j <= k of A_ij A_kj) / s_ik with s_ik = sum over j <= k of A_ij (0 where s_ik is 0).
    With W_ik = A_ik / s_ik for k < i and P = A A^T the sum is <W, P>; W <= 1 and G <= 1 keep the gradient
    G + W A + W^T A - (sum over k >= j of W_ik G_ik)_ij finite for any small s.
    """
    running = A.cumsum(-1)
    running.masked_fill_(running <= 0, 1)
    W = torch.tril(A, -1)
    W /= running
    P = _times_own_transpose(A)
    value = torch.linalg.vecdot(W, P)
    if not want_grad:
        return value, None
    G = P.div_(running)
    passed = torch.mul(W, G, out=running)
    grad = G
    grad -= passed.flip(-1).cumsum(-1).flip(-1)
    _add_triangles(grad, W, A)
    return value, grad


def _times_own_transpose(A: Tensor) -> Tensor:
    """The part of A A^T below the diagonal, for lower triangular A; 0 elsewhere."""
    product = torch.zeros_like(A)
    for start, stop in _ranges(A):
        product[..., start:stop, :stop] = A[..., start:stop, :stop] @ A[..., :stop, :stop].mT
    return product.tril_(-1)


def _add_triangles(total: Tensor, W: Tensor, A: Tensor) -> None:
    """Adds W A, and W^T A where A has a support (on and below the diagonal, block by block), for lower W and A."""
    for start, stop in _ranges(A):
        total[..., start:stop, :stop] += W[..., start:stop, :stop] @ A[..., :stop, :stop]
        total[..., start:stop, :stop] += W[..., start:, start:stop].mT @ A[..., start:, :stop]


def _ranges(A: Tensor) -> list[tuple[int, int]]:
    T = A.shape[-1]
    return [(start, min(start + _BLOCK, T)) for start in range(0, T, _BLOCK)]
