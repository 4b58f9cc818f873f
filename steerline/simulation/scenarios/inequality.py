"""How unequally something is shared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def gini(values: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Gini coefficient of what each has [N], nothing negative: 0 where all have the same, near 1 where one has all.

    `sum_i (2 i - N - 1) x_(i) / (N sum_i x_i)` over the values in order.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    total, count = float(ordered.sum()), len(ordered)
    if total <= 0:
        return 0.0
    # A sum, not a product of BLAS, whose order of adding differs between machines.
    return float(((2 * np.arange(1, count + 1) - count - 1) * ordered).sum()) / (count * total)
