"""Adapters of one batch whose rows differ in them: the base's products are made once for all rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from steerline.models.adapter import Adapter

Tokens = list[tuple[Adapter, Tensor]]
"""An adapter, and the numbers of the tokens of a pass that have it."""

# Up to so many tokens a product is too small for its work to matter: what counts is how many products there are.
_FEW_TOKENS = 64


class RowAdapters:
    """Hooks on the maps that the adapters of running rows change; a map that none changes has none.

    The tokens of an adapter gain its product, and all others keep their bits.

    Args:
        model: the base, perhaps packed.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._hooks: dict[str, RemovableHandle] = {}
        self._held: list[Adapter] = []
        self._stacks: dict[str, _Stack] = {}
        self._tokens: Tokens = []
        self._mixed: _Mixed | None = None

    def hold(self, adapters: Collection[Adapter]) -> None:
        """Sets the hooks that these need and takes out those that none of them needs.

        Matrices are laid side by side anew when another adapter comes, and when less than half of those that lie there
        are needed: adapters whose rows come and go stay as they are.
        """
        if set(self._held).issuperset(adapters) and len(self._held) <= 2 * len(adapters):
            return
        self._held, self._stacks = list(adapters), {}
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
        """Around a forward pass over [N, 1] tokens, of which these have adapters, which are held."""
        self._tokens = tokens
        self._mixed = self._mix(tokens) if 0 < sum(len(own) for _, own in tokens) <= _FEW_TOKENS else None
        try:
            yield
        finally:
            self._tokens, self._mixed = [], None

    def _mix(self, tokens: Tokens) -> _Mixed:
        places = torch.tensor([self._held.index(adapter) for adapter, _ in tokens])
        owners = places.repeat_interleave(torch.tensor([len(own) for _, own in tokens]))
        numbers = torch.cat([own for _, own in tokens])
        return _Mixed(numbers, owners.to(numbers.device)[:, None])

    def _add(self, path: str, _module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x, mixed = inputs[0], self._mixed
        if mixed is not None:
            stack = self._stacks.get(path)
            if stack is None:
                stack = self._stacks[path] = _stacked(self._held, path)
            inner = x.index_select(0, mixed.numbers) @ stack.down
            if len(self._held) > 1:
                # [M, R], of whatever shape the model passes its tokens on.
                inner.flatten(0, -2).masked_fill_(stack.owners != mixed.owners, 0.0)
            output.index_add_(0, mixed.numbers, inner @ stack.up)
            return
        for adapter, tokens in self._tokens:
            added = adapter.maps.get(path)
            if added is not None:
                output.index_add_(0, tokens, x.index_select(0, tokens) @ added.down @ added.up)


class _Mixed(NamedTuple):
    """The tokens of a pass that have adapters, all of them at once."""

    numbers: Tensor
    owners: Tensor
    """[M, 1], the place of each token's adapter among those that are held."""


class _Stack(NamedTuple):
    """Matrices of a map from all adapters that are held, side by side."""

    down: Tensor
    """[K, R]."""
    up: Tensor
    """[R, N]."""
    owners: Tensor
    """[R], the place of the adapter of each."""


def _stacked(held: Sequence[Adapter], path: str) -> _Stack:
    found = [(place, adapter.maps[path]) for place, adapter in enumerate(held) if path in adapter.maps]
    places = torch.tensor([place for place, _ in found])
    owners = places.repeat_interleave(torch.tensor([low.down.shape[1] for _, low in found]))
    down, up = torch.cat([low.down for _, low in found], 1), torch.cat([low.up for _, low in found])
    return _Stack(down, up, owners.to(down.device))


def tokens_of(adapters: Sequence[Adapter | None], lengths: Sequence[int], device: torch.device) -> Tokens:
    """The tokens of each adapter in a pass that has so many tokens of a row with each."""
    places: dict[Adapter, list[int]] = {}
    start = 0
    for adapter, length in zip(adapters, lengths, strict=True):
        if adapter is not None:
            places.setdefault(adapter, []).extend(range(start, start + length))
        start += length
    return [(adapter, torch.tensor(own, device=device)) for adapter, own in places.items()]
