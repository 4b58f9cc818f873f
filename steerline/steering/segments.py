"""Packed rows taken apart, so that a loss over pairs of tokens sees one example at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from steerline.errors import SteeringError


def unpack(x: Tensor, segment_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Packed rows as one row per example; nothing moves where no row holds more than one example.

    Values keep their bits and gradients flow back to where they came from. Examples keep their order, row by row.

    Args:
        x: [B, T, ...].
        segment_ids: [B, T] int: 0 on padding, 1, 2, ... on the examples of a row, each of them in one piece.

    Returns:
        The examples [S, L, ...], 0 behind the end of each, and which tokens are theirs [S, L] bool. L is the length of
        the longest. Where no row holds two examples: `x` itself and `segment_ids > 0`.

    Raises:
        SteeringError: the shapes do not fit.
    """
    if x.shape[:2] != segment_ids.shape or segment_ids.ndim != 2:
        raise SteeringError(
            "segment ids do not fit the values",
            got=f"values {list(x.shape)}, segment ids {list(segment_ids.shape)}",
            expected="values [B, T, ...] and segment ids [B, T]",
        )
    valid = segment_ids > 0
    if segment_ids.numel() == 0 or int(segment_ids.max()) <= 1:
        return x, valid
    before = torch.nn.functional.pad(segment_ids, (1, 0))[:, :-1]
    starts = (valid & (segment_ids != before)).flatten()
    where = valid.flatten().nonzero().squeeze(-1)
    example = starts.cumsum(0)[where] - 1
    position = where - starts.nonzero().squeeze(-1)[example]
    shape = int(example[-1]) + 1, int(position.max()) + 1
    mask = torch.zeros(shape, dtype=torch.bool, device=x.device)
    mask[example, position] = True
    rows = x.new_zeros(*shape, *x.shape[2:]).index_put((example, position), x.flatten(0, 1)[where])
    return rows, mask
