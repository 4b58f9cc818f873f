"""The next token of a row: the likeliest, or a draw from its distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from steerline.config.inference import SamplingSpec


def draw(logits: Tensor, sampling: SamplingSpec, u: float) -> int:
    """One token.

    The draw inverts the distribution function in the order of the vocabulary, not in that of probabilities: rounding
    that swaps two nearly equal tokens then moves no other token's interval.

    Args:
        logits: [V].
        sampling: temperature and nucleus.
        u: in [0, 1).
    """
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits.double() / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        probabilities = torch.where(probabilities >= _least(probabilities, sampling.top_p), probabilities, 0)
    total = probabilities.cumsum(dim=-1)
    place = torch.searchsorted(total, (total[-1] * u).reshape(1), right=True)
    # u just below 1 may round up to the whole; the last token with any probability is meant.
    return min(int(place), int(probabilities.nonzero()[-1]))


def _least(probabilities: Tensor, top_p: float) -> Tensor:
    """The smallest probability in the nucleus: the fewest tokens that hold `top_p` together."""
    # All below this hold less than what lies outside the nucleus, so none of them is in it; few are left to sort.
    least = (1 - top_p) / (2 * len(probabilities))
    ranked = probabilities[probabilities >= least].sort(descending=True).values
    before = ranked.cumsum(dim=-1) - ranked
    return ranked[before < top_p][-1]
