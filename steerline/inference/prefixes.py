"""What the prompts of a batch begin with together is computed once, and kept for the batches that follow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from steerline.config.steering import SteeringSpec
from steerline.evaluation.model_facts import supports_branches
from steerline.inference.row_steering import RowSteering

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LEAST_TOKENS = 32  # a shorter beginning costs more calls than it saves work
_GOOD_SHARE = 0.75
_KEPT = 16

Key = tuple[tuple[int, ...], SteeringSpec]
Layers = list[tuple[Tensor, Tensor]]


class Prompted(Protocol):
    """A row, as far as its prompt goes."""

    prompt: list[int]
    steering: SteeringSpec
    cached_tokens: int


class Prefixes:
    """Keys and values [1, H, P, D] of every layer for common beginnings of P tokens, under each steering.

    They are those of a pass over the whole prompt, up to rounding.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Layers] = OrderedDict()

    def begin(
        self, model: PreTrainedModel, steering: RowSteering, rows: Sequence[Prompted]
    ) -> tuple[DynamicCache, int]:
        """A cache that holds the beginning of all rows, and its length P; P is 0 where too little is shared."""
        length = self._length([row.prompt for row in rows])
        if length == 0 or not supports_branches(model, max(len(row.prompt) for row in rows)):
            return DynamicCache(config=model.config), 0
        keys: list[Key] = [(tuple(row.prompt[:length]), row.steering) for row in rows]
        for number, (key, row) in enumerate(zip(keys, rows, strict=True)):
            row.cached_tokens = length if key in self._kept else 0
            if key not in self._kept:
                self._kept[key] = _compute(model, steering, key[0], number)
            self._kept.move_to_end(key)
        layers = [
            (torch.cat([keys for keys, _ in rows_of]), torch.cat([values for _, values in rows_of]))
            for rows_of in zip(*(self._kept[key] for key in keys), strict=True)
        ]
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return DynamicCache(layers, config=model.config), length

    def _length(self, prompts: Sequence[list[int]]) -> int:
        """How much of a beginning to use: one that is kept, unless the prompts share a good deal more."""
        shared = common_length(prompts)
        fitting = [len(prefix) for prefix, _ in self._kept if list(prefix) == prompts[0][: min(len(prefix), shared)]]
        kept = max(fitting, default=0)
        if kept and (len(prompts) == 1 or kept >= _GOOD_SHARE * shared):
            return kept
        # What one prompt shares with those to come is not known.
        return shared if len(prompts) > 1 and shared >= _LEAST_TOKENS else 0


def _compute(model: PreTrainedModel, steering: RowSteering, prefix: Sequence[int], number: int) -> Layers:
    """By itself, as the row of this number: then what else is in the batch cannot even change the rounding."""
    cache = DynamicCache(config=model.config)
    with steering.forward(torch.tensor([number])):
        ids = torch.tensor([prefix], device=model.device)
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return [(layer.keys, layer.values) for layer in cache.layers]


def common_length(prompts: Sequence[list[int]]) -> int:
    """Tokens that all prompts begin with, short of the last of the shortest: something must be left to read."""
    first, last = min(prompts), max(prompts)  # in lexical order, so that no two differ earlier
    limit = min(map(len, prompts)) - 1
    return next((place for place in range(limit) if first[place] != last[place]), limit)
