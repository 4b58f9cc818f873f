"""The mathematics of InfoSteer on rows of keys, in plain torch: `kernels.cpp` must equal it, and without it this runs.

Legend: N tokens, F keys of a token, n edited keys of a token, S strengths (S divides N; each holds for N / S tokens in
turn). Statistics are float32, or float64 for float64 keys. Nothing here is differentiable by autograd: the backward
functions are the analytic gradients (`ops.py` joins them).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Norm = Literal["abs_l1", "relu", "square", "softmax"]
NORMS: tuple[Norm, ...] = ("abs_l1", "relu", "square", "softmax")


class Edit(NamedTuple):
    """How a key is replaced: by scale * mean, the mean that of the keys or (absolute) of |keys|.

    `keep_sign` gives the new value, scale * |mean|, the sign of the key it replaces (0 counts as positive);
    `detach_mean` lets no gradient flow through the mean.
    """

    scale: float
    absolute: bool
    keep_sign: bool
    detach_mean: bool


class EntropyRows(NamedTuple):
    """Key entropy H of each token in nats, and what its gradient needs: the weights' total and their unit. All [N]."""

    entropy: Tensor
    total: Tensor
    peak: Tensor


class ReplacedRows(NamedTuple):
    """Edited keys [N, F]; mean of each token's keys [N]."""

    keys: Tensor
    means: Tensor


def statistics_dtype(keys: Tensor) -> torch.dtype:
    """float32, or float64 for float64 keys."""
    return torch.float64 if keys.dtype == torch.float64 else torch.float32


def without_autocast(like: Tensor) -> torch.autocast:
    """While inside, products on the device of `like` are taken in the dtype of their factors."""
    return torch.autocast(like.device.type, enabled=False)


def select(keys: Tensor, n: int, magnitude: bool, largest: bool) -> Tensor:
    """Indices [N, n] int32, ascending, of each row's n smallest (or largest) keys, by value or by magnitude.

    Ties go to the lowest index; NaN is picked last.
    """
    score = keys.abs() if magnitude else keys
    order = torch.sort(-score if largest else score, dim=-1, stable=True).indices
    return order[:, :n].sort(dim=-1).values.to(torch.int32)


def select_by_topk(keys: Tensor, n: int, magnitude: bool, largest: bool) -> Tensor:
    """The same as `select` for keys of at most 32 bits, without sorting whole rows: fast on GPUs.

    Score and index are put into one integer, so that no two entries tie and `topk` has no choice left.
    """
    score = keys.abs() if magnitude else keys
    # Adding 0 turns -0 into 0, which it must tie with.
    score = (-score if largest else score) + 0.0
    bits = score.float().view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    ordered = torch.where(score.isnan(), 0x7FFFFFFF, ordered).to(torch.int64)
    unique = ordered * keys.shape[-1] + torch.arange(keys.shape[-1], device=keys.device)
    return unique.topk(n, dim=-1, largest=False, sorted=False).indices.sort(dim=-1).values.to(torch.int32)


def _per_row(strengths: Tensor, keys: Tensor) -> Tensor:
    return strengths.to(keys.device, statistics_dtype(keys)).repeat_interleave(keys.shape[0] // strengths.numel())


def signs_at(keys: Tensor, indices: Tensor) -> Tensor:
    """The signs [N, n] int8 of the keys at `indices` [N, n]: -1, 0 or 1 (0 for NaN)."""
    picked = keys.gather(-1, indices.long())
    return (picked > 0).to(torch.int8) - (picked < 0).to(torch.int8)


def replace(keys: Tensor, indices: Tensor, signs: Tensor, strengths: Tensor, edit: Edit) -> ReplacedRows:
    """Moves the keys at `indices` [N, n] from where they are (strength 0) to where `edit` puts them (strength 1).

    `signs` [N, n] are those that these keys count as having.
    """
    x = keys.to(statistics_dtype(keys))
    strength = _per_row(strengths, keys)
    means = (x.abs() if edit.absolute else x).mean(dim=-1)
    index = indices.long()
    old = x.gather(-1, index)
    target = edit.scale * means[:, None].expand_as(old)
    if edit.keep_sign:
        target = torch.where(signs < 0, -edit.scale, edit.scale) * means.abs()[:, None]
    new = torch.lerp(old, target, strength[:, None].expand_as(old))
    acts = strength != 0
    edited = keys.scatter(-1, index, new.to(keys.dtype))
    return ReplacedRows(
        keys=torch.where(acts[:, None], edited, keys),
        means=torch.where(acts, means, 0),
    )


def replace_backward(
    grad: Tensor,
    edited: Tensor,
    indices: Tensor,
    signs: Tensor,
    means: Tensor,
    strengths: Tensor,
    edit: Edit,
) -> Tensor:
    """Gradient [N, F] of `replace` with respect to its keys, from the gradient [N, F] with respect to its result.

    An edited key passes (1 - strength) of its gradient on; every key receives a share through the mean.
    """
    index = indices.long()
    g = grad.to(statistics_dtype(grad))
    strength = _per_row(strengths, grad)
    at_edit = g.gather(-1, index)
    through_mean = torch.zeros_like(means)
    if not edit.detach_mean:
        turn = torch.where(signs < 0, -1, 1) * means.sign()[:, None] if edit.keep_sign else torch.ones_like(at_edit)
        through_mean = strength * edit.scale * (at_edit * turn).sum(dim=-1) / grad.shape[-1]
    slope = through_mean[:, None]
    spread = g + (edited.sign().to(g.dtype) * slope if edit.absolute else slope)
    own = (1 - strength)[:, None] * at_edit + (signs.to(g.dtype) * slope if edit.absolute else slope)
    result = spread.scatter(-1, index, own).to(grad.dtype)
    return torch.where((strength != 0)[:, None], result, grad)


def _weights(x: Tensor, peak: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """The unnormalised weights u [N, F] relative to the row's peak, and ln u (0 where u is 0)."""
    if norm == "softmax":
        log_u = x - peak[:, None]
        return log_u.exp(), log_u.masked_fill(log_u == -torch.inf, 0)
    ratio = (x.relu() if norm == "relu" else x.abs()) / peak[:, None]
    log_ratio = torch.where(ratio == 0, 1, ratio).log()
    return (ratio.square(), 2 * log_ratio) if norm == "square" else (ratio, log_ratio)


def entropy(keys: Tensor, weights: Tensor, norm: Norm) -> EntropyRows:
    """Entropy of each token's keys; tokens whose entry in `weights` [N] is 0 are skipped and give 0.

    H(q) = -sum_i q_i ln q_i with q = u / sum(u) and u = |k|, relu(k), k^2 or exp(k). A row without weight (all keys 0;
    for relu all keys <= 0) has entropy 0.
    """
    x = keys.to(statistics_dtype(keys))
    if norm == "softmax":
        peak = x.amax(dim=-1)
    else:
        peak = (x.relu() if norm == "relu" else x.abs()).amax(dim=-1)
        peak = torch.where(peak == 0, 1, peak)
    u, log_u = _weights(x, peak, norm)
    total = u.sum(dim=-1)
    value = torch.where(total == 0, 0, total.log() - (u * log_u).sum(dim=-1) / total)
    counts = weights != 0
    return EntropyRows(torch.where(counts, value, 0), torch.where(counts, total, 0), torch.where(counts, peak, 1))


def entropy_backward(keys: Tensor, grad: Tensor | None, weights: Tensor, rows: EntropyRows, norm: Norm) -> Tensor:
    """`grad` [N, F] (none counts as 0) plus weights [N] times dH/dkeys, in the dtype of the keys.

    dH/du = -(ln q + H) / sum(u), carried to the keys by du/dk. A key of 0 has gradient 0 (for abs_l1 the limit is
    infinite from both sides, with opposite signs), and so has every key of a row without weight.
    """
    x = keys.to(statistics_dtype(keys))
    u, log_u = _weights(x, rows.peak, norm)
    surprise = log_u - rows.total.log()[:, None] + rows.entropy[:, None]
    if norm == "softmax":
        slope = u * surprise
    elif norm == "square":
        slope = 2 * (x / rows.peak[:, None]) * surprise / rows.peak[:, None]
    else:
        slope = (x > 0 if norm == "relu" else x.sign()) * surprise / rows.peak[:, None]
    slope = -slope * (weights / rows.total)[:, None]
    acts = (weights != 0) & (rows.total != 0)
    before = torch.zeros_like(keys) if grad is None else grad
    return torch.where(acts[:, None], (before.to(x.dtype) + slope).to(keys.dtype), before)
