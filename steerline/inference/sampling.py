"""The next token of each row, and how likely it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from steerline.inference.chance import uniform
from steerline.inference.draw import draw
from steerline.inference.request import TokenLogprob
from steerline.inference.row import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def choose(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row, by logits [R, V]."""
    # The same as `argmax`, which torch computes four times as slowly in bfloat16 on a CPU.
    tokens: list[int] = logits.max(dim=-1).indices.tolist()
    for index, row in enumerate(rows):
        if row.constraint is not None or row.sampling.temperature > 0:
            allowed = logits[index] if row.constraint is None else row.constraint.mask(logits[index])
            tokens[index] = draw(allowed, row.sampling, uniform(row.seed, len(row.new)))
    return tokens


def logprob(logits: Tensor, token: int, num_top: int, tokenizer: PreTrainedTokenizerBase) -> TokenLogprob:
    """How likely a token was by logits [V], before temperature, `top_p` and any schema; and the likeliest."""
    logprobs = logits.float().log_softmax(dim=-1)
    values, indices = logprobs.topk(min(num_top, len(logprobs)))
    top = tuple(
        (str(tokenizer.decode([index])), value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)
    )
    return TokenLogprob(str(tokenizer.decode([token])), float(logprobs[token]), top)
