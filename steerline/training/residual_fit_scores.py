"""How a frozen model answers held-out items under several sets of residual scales, and under none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steerline.data.batch import Row
from steerline.training.residual_fit import ScaledModel, passes, token_losses

Floats = NDArray[np.float64]


@torch.no_grad()
def score(
    scaled: ScaledModel,
    rows: Sequence[Row],
    betas: Tensor,
    *,
    end_of_text: int,
    batch_tokens: int,
    on_rows: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Floats, Floats]:
    """Whether each item is answered right, and its loss, for every set of scales in the same passes.

    An item is right if each token of its answer, the end of text aside, is the likeliest one after the true tokens
    before it: just when greedy decoding gives that answer. Its loss is the mean over its targets, in nats.

    Args:
        scaled: the frozen model.
        rows: M items, one example a row.
        betas: [G, P, N]; a set of ones is the plain model bit for bit.
        end_of_text: the token that closes an answer.
        batch_tokens: tokens in a pass.
        on_rows: told how many of all rows are done.

    Returns:
        Right or not, and loss, [G, M] each.
    """
    sets = len(betas)
    # Item by item: the sets of one item have one length, so they cost no padding.
    repeated = [row for row in rows for _ in range(sets)]
    owner = torch.arange(sets).repeat(len(rows))
    right = torch.ones(len(repeated), dtype=torch.float64)
    loss = torch.zeros(len(repeated), dtype=torch.float64)
    counts = torch.zeros(len(repeated), dtype=torch.float64)
    for part in passes(repeated, batch_tokens):
        logits, targets, row = scaled.logits(repeated[part], betas[owner[part]])
        each = token_losses(logits, targets)
        missed = (logits.argmax(-1) != targets) & (targets != end_of_text)
        place = row.cpu() + part.start
        right[place[missed.cpu()]] = 0
        loss.index_add_(0, place, each.double().cpu())
        counts.index_add_(0, place, torch.ones(len(place), dtype=torch.float64))
        on_rows(part.stop, len(repeated))
    return _by_set(right, sets), _by_set(loss / counts, sets)


def _by_set(values: Tensor, sets: int) -> Floats:
    found: Floats = values.view(-1, sets).T.numpy().copy()
    return found
