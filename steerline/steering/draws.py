"""Random numbers that are a function of their place, so that computing a forward pass again draws them again.

A counter-based hash stands in for a generator's state: the number for key f of token t in row b of a batch depends on
(seed, step, layer, b, t, f) and on nothing else, neither on padding nor on the number of rows. Rows at the same place
of another micro-batch or of another worker draw the same numbers; a row that another worker count puts elsewhere draws
others. Where a family flattens its keys to [B * T, F], the position in that list stands in for (b, t).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ROW_STRIDE = 1 << 32


@dataclass(frozen=True)
class Place:
    """Where in a run the numbers are drawn."""

    seed: int
    control_seed: int
    step: int
    layer: int

    def _base(self, stream: int) -> int:
        text = f"{self.seed}/{self.control_seed}/{self.step}/{self.layer}/{stream}"
        return _hash(text)

    def uniform(self, keys: Tensor, stream: int = 0) -> Tensor:
        """Numbers in (0, 1), float32, shape [N, F] for keys [..., T, F] of N tokens (F the last dimension)."""
        *outer, T, F = keys.shape if keys.ndim > 1 else (1, *keys.shape)
        rows = torch.arange(math.prod(outer), device=keys.device)[:, None] * _ROW_STRIDE
        tokens = (rows + torch.arange(T, device=keys.device)).reshape(-1, 1)
        mixed = _mix(_mix(tokens + self._base(stream)) + torch.arange(F, device=keys.device))
        # The upper 24 bits fill a float32's mantissa; the half keeps 0 and 1 out.
        return ((mixed >> 40 & 0xFFFFFF).to(torch.float32) + 0.5) / (1 << 24)

    def normal(self, keys: Tensor) -> Tensor:
        """Standard normal numbers, float32, shape [N, F] (Box-Muller)."""
        radius = (-2 * self.uniform(keys, 0).log()).sqrt()
        return radius * (2 * math.pi * self.uniform(keys, 1)).cos()


def uniform_by_sample(
    names: Sequence[Sequence[str]], segment_ids: Tensor, position_ids: Tensor, key: str, width: int
) -> Tensor:
    """Numbers in (0, 1), float64, [B, T, width], that depend on `key`, the example's name and the token's place in it.

    They do not depend on the batch: the same example draws the same numbers in any row of any micro-batch of any
    worker. Padding draws by the name of the last example of its row.

    Args:
        names: the examples of each row.
        segment_ids: [B, T], 0 on padding, 1, 2, ... on the examples of a row.
        position_ids: [B, T], from 0 in every example and again where padding begins.
        key: seed, step and what else tells draws apart.
        width: numbers for each token.
    """
    most = max((len(row) for row in names), default=0)
    # A batch without examples is one row of padding.
    rows = [[*row] for row in names] or [[]]
    keyed = [[f"padding of {row[-1] if row else ''}", *row, *[""] * (most - len(row))] for row in rows]
    bases = torch.tensor([[_hash(f"{key}/{name}") for name in row] for row in keyed], device=segment_ids.device)
    base = bases.gather(1, segment_ids)
    mixed = _mix(_mix(base + position_ids)[..., None] + torch.arange(width, device=segment_ids.device))
    # 52 bits and a half: neither 0 nor 1.
    return ((mixed >> 12 & (1 << 52) - 1).double() + 0.5) / (1 << 52)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 (wrap-around arithmetic; shifts made logical by masks)."""
    x = (x ^ (x >> 30 & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ (x >> 27 & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ (x >> 31 & 0x1FFFFFFFF)
