"""InfoSteer (arXiv 2507.05158): raise neglected FFN keys in the forward pass, or reward the entropy of the keys.

A token's keys k [F] are what multiplies the FFN's value projection: FFN(h) = sum_i k_i v_i, with v_i row i of W_down
(in gated FFNs k = act(h W_gate) * (h W_up)). The paper leaves several choices open; each is a parameter here, and
`docs/papers.md` says which reading is which.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from steerline.errors import SteeringError
from steerline.steering.ops import pick, replaced, token_entropy
from steerline.steering.rows import NORMS, Edit, Norm


def boost_keys(
    keys: Tensor,
    fraction: float = 0.01,
    scale: float = 1.0,
    select: Literal["value", "magnitude"] = "value",
    mean: Literal["signed", "abs"] = "signed",
    keep_sign: bool = False,
    detach_mean: bool = False,
) -> Tensor:
    """Sets each token's most neglected keys to `scale` times the mean of its keys (the paper's intervention, s 4.1).

    Exactly n = `num_edited(fraction, F)` keys of each token change; all others keep their bits. Ties go to the lowest
    index. The mean is taken in float32 (float64 for float64 keys), then rounded to the keys' dtype. A NaN is picked
    last and makes the token's mean, hence its edited keys, NaN. Which keys are picked is a step function of the keys,
    so the result jumps where ranks swap (and, with `keep_sign`, where a picked key crosses 0); its gradient is that of
    the pick made, and flows through the mean too.

    Args:
        keys: [..., F], floating point.
        fraction: the paper's p, in (0, 1].
        scale: the paper's alpha.
        select: the smallest by signed "value" (the paper's text) or by "magnitude" (its motive).
        mean: of the keys ("signed", the text) or of their absolute values ("abs").
        keep_sign: give the new value, scale * |mean|, the sign of the key it replaces; 0 counts as positive.
        detach_mean: let no gradient flow through the mean.

    Returns:
        The edited keys, same shape and dtype; never the same memory.

    Raises:
        SteeringError: keys are not floating point, F is 0, or an argument lies outside its range.
    """
    n = num_edited(fraction, _num_keys(keys))
    _require("select", select, ("value", "magnitude"))
    _require("mean", mean, ("signed", "abs"))
    flat = keys.detach().reshape(-1, keys.shape[-1]).contiguous()
    picked = pick(flat, n, select == "magnitude")
    full = torch.ones(1, dtype=torch.float64)
    return replaced(keys, picked, full, Edit(scale, mean == "abs", keep_sign, detach_mean))


def key_entropy(keys: Tensor, norm: Norm = "abs_l1") -> Tensor:
    """Entropy H(q) = -sum_i q_i ln q_i of each token's keys (the paper's regulariser, s 4.2).

    q is made of the keys by `norm`: |k| / sum |k| ("abs_l1", the paper's k / sum k where no key is negative),
    relu(k) / sum relu(k), k^2 / sum k^2 ("square"), or softmax(k). 0 <= H <= ln F, with equality on the right for keys
    of one magnitude; exp(H) is the effective number of memories. A token without weight (all keys 0; for relu, none
    positive) has entropy 0 and gradient 0, and so has a key of exactly 0 under abs_l1, relu and square. A NaN or
    infinite key makes the token's entropy NaN (for softmax, -inf is a key of weight 0).

    Args:
        keys: [..., F], floating point.
        norm: how signed keys become a distribution.

    Returns:
        Nats per token [...], float32 (float64 for float64 keys).

    Raises:
        SteeringError: keys are not floating point, F is 0, or the norm is unknown.
    """
    _num_keys(keys)
    _require("norm", norm, NORMS)
    return token_entropy(keys, norm)


def num_edited(fraction: float, num_keys: int) -> int:
    """How many of a token's keys are edited: max(1, floor(fraction * num_keys)).

    The product is exact for the decimal that was written: 0.29 of 100 is 29, where floats give 28.999...

    Raises:
        SteeringError: fraction is not in (0, 1].
    """
    if not (math.isfinite(fraction) and 0 < fraction <= 1):
        raise SteeringError("the fraction of edited keys is out of range", got=fraction, expected="0 < fraction <= 1")
    count: int = _floor_of_product(fraction, num_keys)
    return max(1, count)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # compilers know no fractions
def _floor_of_product(fraction: float, num_keys: int) -> int:
    return math.floor(Fraction(repr(float(fraction))) * num_keys)


def _num_keys(keys: Tensor) -> int:
    if not keys.is_floating_point():
        raise SteeringError("keys must be floating point", got=keys.dtype, expected="float32, bfloat16, float64, ...")
    if keys.ndim == 0 or keys.shape[-1] == 0:
        raise SteeringError("a token has no keys", got=f"shape {list(keys.shape)}", expected="[..., F] with F > 0")
    return keys.shape[-1]


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SteeringError(f"unknown reading of `{name}`", got=value, expected=", ".join(allowed))
