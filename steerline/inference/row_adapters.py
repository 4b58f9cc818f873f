"""Adapters of one batch whose rows differ in them: the base's products are made once for all rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from steerline.models.adapter import Adapter, LowRank

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
        self._held: list[_Held] = []
        self._stacks: dict[str, _Stack] = {}
        self._tokens: Tokens = []
        self._mixed: _Mixed | None = None

    def hold(self, adapters: Collection[Adapter]) -> None:
        """Lays these side by side, and sets the hooks that they need.

        Adapters whose rows come and go stay where they are, and another one is laid over one of the same ranks that has
        no rows, or else beside them. A pass computes all that lie there: where they would be more than twice those that
        are needed, these are laid anew.
        """
        needed = {adapter.key for adapter in adapters}
        if len(self._held) > 2 * len(needed) or not all(self._take_in(adapter, needed) for adapter in adapters):
            self._held, self._stacks = [], {}
            for adapter in adapters:
                self._take_in(adapter, needed)
        for path in [path for path in self._hooks if path not in self._stacks]:
            self._hooks.pop(path).remove()
        for path in self._stacks:
            if path not in self._hooks:
                module = self._model.get_submodule(path)
                # What steering does with a map's output it does with the adapter's part in it.
                self._hooks[path] = module.register_forward_hook(partial(self._add, path), prepend=True)

    def _take_in(self, adapter: Adapter, needed: Collection[object]) -> bool:
        """Has an adapter among those that are held; whether there is a place for it."""
        if any(one.key is adapter.key for one in self._held):
            return True
        mine = _Held(adapter.key, {path: low.down.shape[1] for path, low in adapter.maps.items()})
        free = (n for n, one in enumerate(self._held) if one.key not in needed and one.ranks == mine.ranks)
        place = next(free, len(self._held))
        if place >= 2 * len(needed):
            return False
        self._held[place : place + 1] = [mine]
        for path, low in adapter.maps.items():
            if path not in self._stacks:
                self._stacks[path] = _Stack(low)
            self._stacks[path].lay(place, low)
        return True

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
        held = {one.key: place for place, one in enumerate(self._held)}
        places = torch.tensor([held[adapter.key] for adapter, _ in tokens])
        owners = places.repeat_interleave(torch.tensor([len(own) for _, own in tokens]))
        numbers = torch.cat([own for _, own in tokens])
        return _Mixed(numbers, owners.to(numbers.device)[:, None])

    def _add(self, path: str, _module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x, mixed = inputs[0], self._mixed
        if mixed is not None:
            stack = self._stacks[path]
            inner = linear(x.index_select(0, mixed.numbers), stack.down)
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


class _Held(NamedTuple):
    """An adapter that lies in the stacks. Its own matrices may have gone."""

    key: object
    ranks: dict[str, int]
    """Of its maps, by path."""


class _Stack:
    """Matrices of a map from several adapters, side by side, with room for more: one that comes moves few others.

    Args:
        like: matrices of this map, which are not laid yet.
    """

    def __init__(self, like: LowRank) -> None:
        K, N = len(like.down), like.up.shape[1]
        owners = torch.empty(0, dtype=torch.long, device=like.down.device)
        self._room = [like.down.new_empty(0, K), like.up.new_empty(0, N), owners]
        self._spans: dict[int, slice] = {}
        self.down, self.up, self.owners = self._room
        """[R, K]; [R, N]; [R], the place of the adapter of each."""

    def lay(self, place: int, low: LowRank) -> None:
        """Lay an adapter's matrices over those of its place, which have the same rank, or beside all others."""
        span = self._spans.get(place)
        if span is None:
            span = self._spans[place] = self._widened(low.down.shape[1])
            self.owners[span] = place
        self.down[span], self.up[span] = low.down.T, low.up

    def _widened(self, rank: int) -> slice:
        start = len(self.owners)
        width, room = start + rank, len(self._room[-1])
        if width > room:
            # Twice as much, so that little is moved in all. On a CPU, room that is not filled takes no memory yet.
            larger = [part.new_empty(max(width, 2 * room), *part.shape[1:]) for part in self._room]
            for part, old in zip(larger, self._room, strict=True):
                part[:start] = old[:start]
            self._room = larger
        self.down, self.up, self.owners = (part[:width] for part in self._room)
        return slice(start, width)


def tokens_of(adapters: Sequence[Adapter | None], lengths: Sequence[int], device: torch.device) -> Tokens:
    """The tokens of each adapter in a pass that has so many tokens of a row with each."""
    places: dict[Adapter, list[int]] = {}
    start = 0
    for adapter, length in zip(adapters, lengths, strict=True):
        if adapter is not None:
            places.setdefault(adapter, []).extend(range(start, start + length))
        start += length
    return [(adapter, torch.tensor(own, device=device)) for adapter, own in places.items()]
