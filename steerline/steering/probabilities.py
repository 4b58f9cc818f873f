"""Attention probabilities computed again from queries and keys, a few heads at a time, and the way back to both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from steerline.steering.rows import statistics_dtype

_CHUNK = {"cpu": 1 << 20}
"""Numbers of a matrix that are worked on at once: on CPUs what fits the cache."""
_LARGE_CHUNK = 1 << 26
"""The same on other devices: enough to fill them."""


class Scores(NamedTuple):
    """How a layer turns queries and keys into logits, and who may see whom."""

    scaling: float
    """What q . k is multiplied by."""
    causal: bool
    """Query i sees keys up to i alone."""
    softcap: float | None
    """Logits l become softcap * tanh(l / softcap)."""
    window: int | None
    """Only keys less than this far away are seen."""


class Chunk(NamedTuple):
    """Some heads of some batch rows, which are worked on at once."""

    batch: slice
    heads: slice


class Probabilities(NamedTuple):
    """The attention of one chunk; N = its batch rows * its heads."""

    A: Tensor
    """[N, T, T]; rows that see no key, or that do not count, are 0."""
    query: Tensor
    """[N, T, D]"""
    key: Tensor
    """[N, T, D], a copy for each query head."""
    slope: Tensor | None
    """[N, T, T], d capped logit / d logit, where logits are capped."""


def chunks(like: Tensor) -> Iterator[Chunk]:
    """Chunks of attention [B, H, T, T] for queries or attention `like` [B, H, T, ...].

    On CPUs a chunk's matrices stay in the cache where they can; on other devices a chunk is larger, to fill it.
    """
    B, H, T = like.shape[:3]
    matrices = max(1, _CHUNK.get(like.device.type, _LARGE_CHUNK) // max(1, T * T))
    rows, heads = max(1, matrices // H), min(H, matrices)
    for first in range(0, B, rows):
        for head in range(0, H, heads):
            yield Chunk(slice(first, first + rows), slice(head, head + heads))


def seen_keys(keys: Tensor, scores: Scores) -> Tensor:
    """Which keys each query sees [B, 1, T, T] bool (T queries, or 1 where all see the same), of valid ones [B, T]."""
    T = keys.shape[1]
    seen = keys[:, None, None, :]
    if not scores.causal and scores.window is None:
        return seen
    steps = torch.arange(T, device=keys.device)
    ahead = steps[None, :] - steps[:, None]
    if scores.causal:
        seen = seen & (ahead <= 0)
    if scores.window is not None:
        seen = seen & (ahead.abs() < scores.window)
    return seen


def probabilities(
    query: Tensor, key: Tensor, chunk: Chunk, seen: Tensor, queries: Tensor, scores: Scores
) -> Probabilities:
    """Attention of one chunk, from queries [B, H, T, D] and keys [B, Hkv, T, D] (Hkv divides H).

    Args:
        query, key: as the layer multiplies them: normalised, rotated.
        chunk: which rows and heads.
        seen: [B, 1, T or 1, T], from `seen_keys`.
        queries: [B, T] bool, the queries whose rows count.
        scores: how the layer makes logits.
    """
    dtype, (T, D) = statistics_dtype(query), query.shape[2:]
    q = query[chunk.batch, chunk.heads].to(dtype)
    shape = q.shape[:2]
    k = key[chunk.batch].index_select(1, kv_heads(query, key, chunk)).to(dtype)
    q, k = q.reshape(-1, T, D), k.reshape(-1, T, D)
    logits = torch.baddbmm(q.new_empty(()), q, k.mT, beta=0, alpha=scores.scaling)
    slope = None
    if scores.softcap is not None:
        bent = logits.div_(scores.softcap).tanh_()
        slope = 1 - bent.square()
        logits = bent.mul_(scores.softcap)
    visible = seen[chunk.batch]
    if not bool(visible.all()):
        logits.view(*shape, T, T).masked_fill_(~visible, -torch.inf)
    A = logits.softmax(-1)
    counts = queries[chunk.batch, None, :, None] & visible.any(-1, keepdim=True)
    if not bool(counts.all()):
        A.view(*shape, T, T).masked_fill_(~counts, 0)
    return Probabilities(A, q, k, slope)


def kv_heads(query: Tensor, key: Tensor, chunk: Chunk) -> Tensor:
    """The key head that each query head of the chunk reads."""
    H = query.shape[1]
    return torch.arange(H, device=query.device)[chunk.heads] // (H // key.shape[1])


def back_to_heads(p: Probabilities, grad: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Gradients [N, T, D] for the queries and for each query head's copy of the keys; `grad` (of A) is overwritten."""
    grad.mul_(p.A)
    grad.addcmul_(p.A, grad.sum(-1, keepdim=True), value=-1)
    if p.slope is not None:
        grad.mul_(p.slope)
    return (grad @ p.key).mul_(scaling), (grad.mT @ p.query).mul_(scaling)
