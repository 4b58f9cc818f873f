"""SAFR (arXiv 2501.16374): keep important tokens' vectors apart, and draw tokens that attend to each other together.

L = L_CE + lambda_imp * importance_loss(masked embeddings) + lambda_inter * interaction_loss(attention)

The "reference" variants are the authors' code (the paper's own equations could not be read); the others are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steerline.errors import SteeringError
from steerline.steering import safr_importance, safr_interaction


def importance_loss(
    x: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    variant: safr_importance.Variant = "reference",
) -> Tensor:
    """Mean interference of the tokens' vectors: sum_i w_i I_i / sum_i w_i over all tokens i of the batch.

    I_i = sqrt(sum over j != i of (xhat_i . x_j)^2) / sqrt(E), with xhat_i = x_i / (1e-5 + |x_i|) and j from the same
    sequence. Without valid tokens, or weights, the loss is 0; a token alone interferes with none. Differentiable once,
    in `x` and in `weights`; a token without interference has gradient 0.

    Args:
        x: vectors [B, T, E], floating point; the paper's are the embeddings after VMASK, before positions.
        mask: [B, T] bool, the tokens that are not padding; all if none.
        weights: w [B, T], none below 0; all alike if none.
        variant: "reference", the authors' formula, counts padding as tokens: it does not look at `mask`. "masked"
            takes i and j from the valid tokens alone. "cosine" also normalises x_j (by |x| itself), so that the scale
            of the vectors does not matter.

    Returns:
        A scalar, float32 (float64 for float64).

    Raises:
        SteeringError: a shape, a dtype or the variant is wrong.
    """
    _require_variant(variant, safr_importance.VARIANTS)
    _require_shape("vectors", x, "[B, T, E]", 3)
    everywhere = mask is None
    mask = _mask(mask, x, x.shape[1])
    if weights is not None and weights.shape != mask.shape:
        raise SteeringError("weights do not fit", got=list(weights.shape), expected=f"[B, T] = {list(mask.shape)}")
    valid = None if everywhere or variant == "reference" else mask
    total = safr_importance.vectors_sum(x, valid, weights, variant == "cosine", center=False, early=True)
    counted = torch.ones_like(mask) if valid is None else valid
    count = counted.sum() if weights is None else torch.where(counted, weights.to(total.dtype), 0).sum()
    return total / torch.where(count == 0, 1, count)


def interaction_loss(
    attention: Tensor,
    mask: Tensor | None = None,
    variant: safr_interaction.Variant = "reference",
    causal: bool = False,
) -> Tensor:
    """Mean distance of the attention rows of tokens that attend to each other; formulas in `safr_interaction`.

    "reference" averages A_ik (1 - G_ik) over all B * H * T * T cells, so it is at most 1 / T. "masked" sums over keys
    and averages over heads and valid queries: from 0 to 1, whatever the padding; without valid queries, or with one
    token a sequence, it is 0. Differentiable once.

    Args:
        attention: A [B, H, T, T], floating point, none below 0; query i's row over the keys k. The masked variant
            renormalises the rows over the keys it keeps; a row without weight counts 0.
        mask: [B, T] bool, the tokens that are not padding; all if none. The reference does not look at it.
        variant: "reference", the authors' code, or "masked".
        causal: under "masked", take pairs k < i alone, each on the keys that both rows see. The reference has no such
            form: it is the same formula on any attention.

    Returns:
        A scalar, float32 (float64 for float64).

    Raises:
        SteeringError: a shape, a dtype or the variant is wrong.
    """
    _require_variant(variant, safr_interaction.VARIANTS)
    _require_shape("attention", attention, "[B, H, T, T]", 4)
    B, H, T = attention.shape[:3]
    if attention.shape[3] != T:
        raise SteeringError("attention is not square", got=list(attention.shape), expected="[B, H, T, T]")
    mask = _mask(mask, attention, T)
    total = safr_interaction.attention_sum(attention, mask, variant, causal)
    count = mask.new_full((), B * T, dtype=torch.long) if variant == "reference" else mask.sum()
    return total / (H * count).clamp(min=1)


def _require_variant(variant: str, allowed: tuple[str, ...]) -> None:
    if variant not in allowed:
        raise SteeringError("unknown variant", got=variant, expected=", ".join(allowed))


def _require_shape(name: str, x: Tensor, shape: str, ndim: int) -> None:
    if x.ndim != ndim:
        raise SteeringError(f"{name} have the wrong shape", got=list(x.shape), expected=shape)
    if not x.is_floating_point():
        raise SteeringError(f"{name} must be floating point", got=x.dtype, expected="float32, bfloat16, float64, ...")


def _mask(mask: Tensor | None, x: Tensor, length: int) -> Tensor:
    """The mask as bool [B, T]; all true if none."""
    shape = (x.shape[0], length)
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=x.device)
    if mask.shape != shape:
        raise SteeringError("the mask does not fit", got=list(mask.shape), expected=f"[B, T] = {list(shape)}")
    if mask.is_floating_point():
        raise SteeringError(
            "the mask must tell tokens from padding",
            got=mask.dtype,
            expected="bool, or 0 and 1",
            fix="pass mask.bool()",
        )
    return mask.bool()
