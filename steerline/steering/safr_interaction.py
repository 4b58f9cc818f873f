"""SAFR's interaction term: how far tokens that attend to each other differ in what they attend to.

A_ik is the attention of query i to key k, G_ik the overlap of the attention rows of i and k. Per query i:

    "reference"       (1 / T) * sum over k of A_ik (1 - G_ik), G_ii = 0, G = A A^T: the authors' code; padded queries
                      count, and T is the padded length.
    "masked"          sum over k of A_ik (1 - G_ik), G_ii = 0, with rows renormalised over the valid keys.
    "masked", causal  sum over k < i of A_ik (1 - G_ik), with row i of G renormalised over the keys up to k, the last
                      that row k sees: G_ik = (sum over j <= k of A_ij A_kj) / (sum over j <= k of A_ij).

A sequence with fewer than two valid tokens has no pairs and gives 0 under "masked".
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from steerline.errors import SteeringError
from steerline.steering.overlap import causal_overlap, overlap
from steerline.steering.probabilities import Scores, back_to_heads, chunks, kv_heads, probabilities, seen_keys
from steerline.steering.rows import statistics_dtype, without_autocast

Variant = Literal["reference", "masked"]
VARIANTS: tuple[Variant, ...] = ("reference", "masked")


def interaction_sum(
    query: Tensor,
    key: Tensor,
    mask: Tensor,
    *,
    scaling: float,
    causal: bool,
    variant: Variant = "masked",
    softcap: float | None = None,
    window: int | None = None,
    drop_first_token: bool = False,
) -> Tensor:
    """Sum over valid queries, mean over heads, of the interaction, from what the attention layer multiplies.

    Its denominator is the number of valid tokens, of all B * T positions under "reference". The attention is computed
    again, a few heads at a time, and so is the gradient for queries and keys, in the forward pass: nothing of size
    T x T outlives the call. Differentiable once.

    Args:
        query: [B, H, T, D], after normalisation and rotation.
        key: [B, Hkv, T, D]; Hkv divides H.
        mask: [B, T] bool, the tokens that are not padding; no other key is seen.
        scaling: what q . k is multiplied by.
        causal: query i sees keys up to i alone.
        variant: see the module; "reference" has no causal form of its own.
        softcap: logits l become softcap * tanh(l / softcap).
        window: only keys less than this far away are seen.
        drop_first_token: no query sees the first valid token of its sequence; what it sees is renormalised.

    Returns:
        A scalar, float32 (float64 for float64).

    Raises:
        SteeringError: the shapes do not fit.
    """
    _require_heads(query, key, mask)
    if variant == "masked":
        span = _span(mask)
        query, key, mask = query[:, :, span], key[:, :, span], mask[:, span]
    keys = _without_first(mask) if drop_first_token else mask
    queries = torch.ones_like(mask) if variant == "reference" else _with_partner(mask)
    scores = Scores(scaling, causal, softcap, window)
    with without_autocast(query):
        total: Tensor = InteractionFromHeads.apply(query, key, queries, keys, scores, variant)  # type: ignore[no-untyped-call]
    return total


def hidden_interaction_sum(
    hidden: Tensor,
    query: Tensor,
    key: Tensor,
    mask: Tensor,
    *,
    scaling: float,
    causal: bool,
    variant: Variant = "masked",
    softcap: float | None = None,
    window: int | None = None,
    drop_first_token: bool = False,
) -> Tensor:
    """The same with hidden vectors in place of attention rows: sum over k != i of A_ik (1 - |cos(h_i, h_k)|).

    "reference" averages over the pairs i != k of all T * T, so its denominator is again the B * T positions. A vector
    of zeros has cosine 0 and gradient 0.

    Args:
        hidden: [B, T, E], the tokens' vectors. The other arguments are those of `interaction_sum`.
    """
    _require_heads(query, key, mask)
    if variant == "masked":
        span = _span(mask)
        hidden, query, key, mask = hidden[:, span], query[:, :, span], key[:, :, span], mask[:, span]
    keys = _without_first(mask) if drop_first_token else mask
    queries = torch.ones_like(mask) if variant == "reference" else mask
    scores = Scores(scaling, causal, softcap, window)
    with without_autocast(query):
        total: Tensor = HiddenInteraction.apply(hidden, query, key, queries, keys, scores, variant)  # type: ignore[no-untyped-call]
    return total


def attention_sum(attention: Tensor, mask: Tensor | None, variant: Variant, causal: bool) -> Tensor:
    """Sum over valid queries and over heads of the interaction, for explicit attention [B, H, T, T]."""
    masked = variant == "masked"
    every = torch.ones(attention.shape[0], attention.shape[2], dtype=torch.bool, device=attention.device)
    valid = _with_partner(every if mask is None else mask) if masked else None
    total: Tensor = InteractionFromAttention.apply(attention, valid, causal and masked)  # type: ignore[no-untyped-call]
    return total


def _require_heads(query: Tensor, key: Tensor, mask: Tensor) -> None:
    (B, H, T, D), kv = query.shape, key.shape[1]
    if key.shape != (B, kv, T, D) or H % max(1, kv) or mask.shape != (B, T):
        raise SteeringError(
            "queries, keys and mask do not fit each other",
            got=f"{list(query.shape)}, {list(key.shape)} and {list(mask.shape)}",
            expected="[B, H, T, D], [B, Hkv, T, D] with Hkv dividing H, and [B, T]",
        )


def _span(mask: Tensor) -> slice:
    """The positions between the first and the last that any row uses; the padding around them costs nothing then."""
    used = mask.any(0).nonzero()
    return slice(int(used[0]), int(used[-1]) + 1) if used.numel() else slice(0, 0)


def _without_first(mask: Tensor) -> Tensor:
    return mask & (mask.cumsum(-1) > 1)


def _with_partner(mask: Tensor) -> Tensor:
    return mask & (mask.sum(-1, keepdim=True) > 1)


def _rows(A: Tensor, variant: Variant, causal: bool, want_grad: bool) -> tuple[Tensor, Tensor | None]:
    """The interaction [N, T] of rows that sum to 1 (or are 0), and its gradient [N, T, T]."""
    if causal and variant == "masked":
        shared, grad = causal_overlap(A, want_grad)
        value = torch.tril(A, -1).sum(-1) - shared
        return value, None if grad is None else torch.tril(torch.ones_like(grad), -1).sub_(grad)
    shared, grad = overlap(A, None, want_grad)
    share = 1 / A.shape[-1] if variant == "reference" else 1.0
    return (A.sum(-1) - shared) * share, None if grad is None else grad.mul_(-share)


class InteractionFromHeads(torch.autograd.Function):
    """Queries [B, H, T, D] and keys [B, Hkv, T, D] -> the sum over counted queries [B, T], mean over heads."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, queries: Tensor, keys: Tensor, scores: Scores, variant: Variant
    ) -> Tensor:
        H = query.shape[1]
        dtype = statistics_dtype(query)
        wants_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = query.new_zeros((), dtype=dtype)
        grad_query = torch.zeros_like(query, dtype=dtype) if wants_grad else None
        grad_key = torch.zeros_like(key, dtype=dtype) if wants_grad else None
        seen = seen_keys(keys, scores)
        for chunk in chunks(query) if query.numel() else ():
            p = probabilities(query, key, chunk, seen, queries, scores)
            value, grad = _rows(p.A, variant, scores.causal, wants_grad)
            total += value.sum() / H
            if grad is None or grad_query is None or grad_key is None:
                continue
            by_query, by_key = back_to_heads(p, grad, scores.scaling / H)
            part = grad_query[chunk.batch, chunk.heads]
            part.copy_(by_query.view(part.shape))
            index = kv_heads(query, key, chunk)
            grad_key[chunk.batch].index_add_(1, index, by_key.view(part.shape))
        if grad_query is not None and grad_key is not None:
            ctx.save_for_backward(grad_query.to(query.dtype), grad_key.to(key.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(saved * grads[0].to(saved.dtype) for saved in ctx.saved_tensors), None, None, None, None


class HiddenInteraction(torch.autograd.Function):
    """Hidden vectors [B, T, E], queries and keys -> the sum of attention-weighted distances, mean over heads."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        query: Tensor,
        key: Tensor,
        queries: Tensor,
        keys: Tensor,
        scores: Scores,
        variant: Variant,
    ) -> Tensor:
        H, T = query.shape[1:3]
        dtype = statistics_dtype(query)
        wants_grad = any(ctx.needs_input_grad[:3])
        share = 1 / max(1, T - 1) if variant == "reference" else 1.0
        vectors = hidden.to(dtype)
        length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        length = torch.where(length > 0, length, 1)
        unit = vectors / length
        total = query.new_zeros((), dtype=dtype)
        grad_unit = torch.zeros_like(unit)
        grad_query, grad_key = torch.zeros_like(query, dtype=dtype), torch.zeros_like(key, dtype=dtype)
        seen = seen_keys(keys, scores)
        for chunk in chunks(query) if query.numel() else ():
            p = probabilities(query, key, chunk, seen, queries, scores)
            part = grad_query[chunk.batch, chunk.heads]
            shape = (*part.shape[:2], T, T)
            z = unit[chunk.batch]
            cosine = z @ z.mT
            distance = (1 - cosine.abs()) * share
            distance.diagonal(dim1=-2, dim2=-1).zero_()
            mean = p.A.view(shape).sum(1) / H
            total += (mean * distance).sum()
            if not wants_grad:
                continue
            slope = cosine.sign_().mul_(mean).mul_(-share)
            slope.diagonal(dim1=-2, dim2=-1).zero_()
            grad_unit[chunk.batch] += (slope + slope.mT) @ z
            spread = distance.repeat_interleave(shape[1], 0)
            by_query, by_key = back_to_heads(p, spread, scores.scaling / H)
            part.copy_(by_query.view(part.shape))
            grad_key[chunk.batch].index_add_(1, kv_heads(query, key, chunk), by_key.view(part.shape))
        if not wants_grad:
            return total
        grad_hidden = (grad_unit - unit * torch.linalg.vecdot(unit, grad_unit).unsqueeze(-1)) / length
        grad_hidden.masked_fill_((unit == 0).all(-1, keepdim=True), 0)
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_query.to(query.dtype), grad_key.to(key.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(saved * grads[0].to(saved.dtype) for saved in ctx.saved_tensors), None, None, None, None


class InteractionFromAttention(torch.autograd.Function):
    """Attention [B, H, T, T] -> the sum of the interaction over heads and queries.

    `valid` [B, T] holds the tokens of the "masked" variant; none gives the "reference". The gradient is made in the
    forward pass and handed out once; a graph that is walked again computes it again.
    """

    @staticmethod
    def forward(ctx: Any, attention: Tensor, valid: Tensor | None, causal: bool) -> Tensor:
        ctx.save_for_backward(attention)
        ctx.valid, ctx.causal = valid, causal
        with without_autocast(attention):
            total, ctx.grad = _from_attention(attention, valid, causal, ctx.needs_input_grad[0])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, ctx.grad = ctx.grad, None
        if grad is None:
            (attention,) = ctx.saved_tensors
            with without_autocast(attention):
                _, grad = _from_attention(attention, ctx.valid, ctx.causal, True)
        return grad.mul_(grads[0]), None, None


def _from_attention(
    attention: Tensor, valid: Tensor | None, causal: bool, want_grad: bool
) -> tuple[Tensor, Tensor | None]:
    T = attention.shape[-1]
    dtype = statistics_dtype(attention)
    total = attention.new_zeros((), dtype=dtype)
    grad = torch.empty_like(attention) if want_grad else None
    for chunk in chunks(attention) if attention.numel() else ():
        part = attention[chunk.batch, chunk.heads]
        if valid is None:
            value, slope = _reference_rows(part.to(dtype).reshape(-1, T, T), want_grad)
        else:
            rows = valid[chunk.batch, None].expand(part.shape[:3]).reshape(-1, T)
            value, slope = _masked_rows(part.to(dtype).reshape(-1, T, T), rows, causal, want_grad)
        total += value
        if grad is not None and slope is not None:
            grad[chunk.batch, chunk.heads] = slope.view(part.shape)
    return total, grad


def _reference_rows(A: Tensor, want_grad: bool) -> tuple[Tensor, Tensor | None]:
    """The authors' formula as it stands: the weights are divided by their sum, the rows in G are not."""
    sums = A.sum(-1)
    counts = sums > 0
    scale = torch.where(counts, 1 / torch.where(counts, sums, 1), 0) / A.shape[-1]
    shared, grad = overlap(A, scale, want_grad)
    value = counts.sum().to(A.dtype) / A.shape[-1] - shared.sum()
    if grad is None:
        return value, None
    # The divisor holds every entry of the row: d/ds of -shared is shared / s.
    return value, grad.neg_().add_((shared * scale * A.shape[-1])[..., None])


def _masked_rows(A: Tensor, valid: Tensor, causal: bool, want_grad: bool) -> tuple[Tensor, Tensor | None]:
    """Rows and keys outside `valid` [N, T] dropped, and under `causal` keys ahead; the rest renormalised."""
    kept = valid[:, :, None] & valid[:, None, :]
    if causal:
        kept = kept.tril()
    A = A.masked_fill(~kept, 0)
    sums = A.sum(-1, keepdim=True)
    inverse = torch.where(sums > 0, 1 / torch.where(sums > 0, sums, 1), 0)
    A *= inverse
    value, grad = _rows(A, "masked", causal, want_grad)
    if grad is None:
        return value.sum(), None
    grad -= torch.linalg.vecdot(grad, A).unsqueeze(-1)
    grad *= inverse
    return value.sum(), grad.masked_fill_(~kept, 0)
