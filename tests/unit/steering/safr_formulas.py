"""SAFR's losses as plainly as they can be written, for autograd: what the library must equal."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reference_importance(x: Tensor) -> Tensor:
    """The authors' formula: every pair of positions, padding included."""
    unit = x / (1e-5 + x.norm(dim=-1, keepdim=True))
    products = unit @ x.transpose(-1, -2)
    products = products * (1 - torch.eye(x.shape[1], dtype=x.dtype, device=x.device))
    return products.square().sum(-1).sqrt().mean() / math.sqrt(x.shape[-1])


def reference_interaction(attention: Tensor) -> Tensor:
    """The authors' formula: attention, weighted with how far the rows of the two tokens differ."""
    weights = attention / attention.sum(-1, keepdim=True)
    overlaps = attention @ attention.transpose(-1, -2)
    overlaps = overlaps * (1 - torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device))
    return (weights * (1 - overlaps)).mean()


def token_interferences(x: Tensor, variant: str, center: bool) -> Tensor:
    """Interference [n] of each token of one sequence [n, E] of real tokens, pair by pair."""
    n, E = x.shape
    y = x - x.mean(0) if center else x
    values = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        length = y[i].norm() if variant == "cosine" else 1e-5 + y[i].norm()
        terms = [(y[i] @ y[j] / length / (y[j].norm() if variant == "cosine" else 1)) ** 2 for j in others]
        values.append(torch.stack(terms).sum().sqrt() / math.sqrt(E) if terms else x.new_zeros(()))
    return torch.stack(values)


def masked_interactions(A: Tensor, causal: bool) -> Tensor:
    """Interaction [n] of each query of one sequence's attention [n, n] among real tokens, pair by pair."""
    n = A.shape[0]
    if n < 2:
        return A.new_zeros(n)
    A = A.tril() if causal else A
    A = A / A.sum(-1, keepdim=True)
    values = []
    for i in range(n):
        value = A.new_zeros(())
        for k in range(i if causal else n):
            if causal:
                overlap = (A[i, : k + 1] / A[i, : k + 1].sum()) @ A[k, : k + 1]
            else:
                overlap = A[i] @ A[k] if k != i else A.new_zeros(())
            value = value + A[i, k] * (1 - overlap)
        values.append(value)
    return torch.stack(values)


def attention_of(
    query: Tensor,
    key: Tensor,
    keys: Tensor,
    scaling: float,
    causal: bool,
    softcap: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Attention [B, H, T, T] as layers compute it: capped, masked, normalised; queries that see nothing get zeros."""
    T = query.shape[2]
    logits = query @ key.repeat_interleave(query.shape[1] // key.shape[1], 1).transpose(-1, -2) * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    seen = keys[:, None, None, :].expand(-1, 1, T, T)
    if causal:
        seen = seen & torch.ones(T, T, dtype=torch.bool).tril()
    if window is not None:
        steps = torch.arange(T)
        seen = seen & ((steps[:, None] - steps[None, :]).abs() < window)
    logits = logits.masked_fill(~seen, -torch.inf)
    some = seen.any(-1, keepdim=True)
    return torch.where(some, torch.where(some, logits, 0).softmax(-1) * seen, 0)
