"""Adapters of one batch whose rows differ in them: the base's products are made once for all rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from steerline.models.adapter import Adapter

Tokens = list[tuple[Adapter, Tensor]]
"""An adapter, and the numbers of the tokens of a pass that have it."""


class RowAdapters:
    """Hooks on the maps that the adapters of running rows change; a map that none changes has none.

    The tokens of an adapter gain its product, and all others keep their bits.

    Args:
        model: the base, perhaps packed.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._hooks: dict[str, RemovableHandle] = {}
        self._tokens: Tokens = []

    def hold(self, adapters: Collection[Adapter]) -> None:
        """Sets the hooks that these need and takes out those that none of them needs."""
        paths = dict.fromkeys(path for adapter in adapters for path in adapter.maps)
        for path in [path for path in self._hooks if path not in paths]:
            self._hooks.pop(path).remove()
        for path in paths:
            if path not in self._hooks:
                module = self._model.get_submodule(path)
                # What steering does with a map's output it does with the adapter's part in it.
                self._hooks[path] = module.register_forward_hook(partial(self._add, path), prepend=True)

    @contextmanager
    def acting(self, tokens: Tokens) -> Iterator[None]:
        """Around a forward pass over [N, 1] tokens, of which these have adapters."""
        self._tokens = tokens
        try:
            yield
        finally:
            self._tokens = []

    def _add(self, path: str, _module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0]
        for adapter, tokens in self._tokens:
            added = adapter.maps.get(path)
            if added is not None:
                output.index_add_(0, tokens, x.index_select(0, tokens) @ added.down @ added.up)


def tokens_of(adapters: Sequence[Adapter | None], lengths: Sequence[int], device: torch.device) -> Tokens:
    """The tokens of each adapter in a pass that has so many tokens of a row with each."""
    places: dict[Adapter, list[int]] = {}
    start = 0
    for adapter, length in zip(adapters, lengths, strict=True):
        if adapter is not None:
            places.setdefault(adapter, []).extend(range(start, start + length))
        start += length
    return [(adapter, torch.tensor(own, device=device)) for adapter, own in places.items()]
