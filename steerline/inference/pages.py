"""Where the keys and values of all rows are: pages of a few tokens, which rows that begin alike share."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

PAGE = 32  # tokens


class Pages:
    """A pool of pages, each counted by those who hold it.

    A row's tokens are in the order of its pages, the last of which may be filled in part. Nothing is ever moved, so
    rows come and go without a copy. The pool's memory is touched only as pages are first used.

    Args:
        num_layers: of the model.
        num_tokens: that the pool is for; it holds at least one page.
    """

    def __init__(self, num_layers: int, num_tokens: int) -> None:
        self._num_layers = num_layers
        self._uses = [0] * num_pages(max(1, num_tokens))
        self._free = list(range(len(self._uses)))[::-1]
        self._store: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self._uses)

    @property
    def num_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def take(self) -> int:
        """A free page, held once. There must be one."""
        page = self._free.pop()
        self._uses[page] = 1
        return page

    def hold(self, page: int) -> None:
        """One more holds this page."""
        self._uses[page] += 1

    def release(self, page: int) -> None:
        """One fewer holds it; when none does it is free, and cleared of what may be no finite number."""
        self._uses[page] -= 1
        if self._uses[page] == 0:
            self._free.append(page)
            for part in self._store or ():
                part[:, page] = 0

    def uses(self, page: int) -> int:
        """How many hold this page."""
        return self._uses[page]

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Copies the first tokens of a page in all layers."""
        assert self._store is not None, "a page with tokens was written"
        keys, values = self._store
        keys[:, target, :, :, :num_tokens] = keys[:, source, :, :, :num_tokens]
        values[:, target, :, :num_tokens] = values[:, source, :, :num_tokens]

    def grow(self, num_more: int) -> None:
        """Adds pages to the pool, which copies it."""
        first = len(self._uses)
        self._uses += [0] * num_more
        self._free += range(first, len(self._uses))
        if self._store is not None:
            keys, values = (
                torch.cat([part, part.new_zeros(len(part), num_more, *part.shape[2:])], dim=1) for part in self._store
            )
            self._store = keys, values

    def layer(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [P, K, D, PAGE] and values [P, K, PAGE, D] of a layer, for K heads of width D as in `like` [N, K, 1, D].

        Keys lie with their tokens side by side, for the sake of `attention.cpp`.
        """
        if self._store is None:
            _, K, _, D = like.shape
            outer = (self._num_layers, len(self._uses), K)
            # Zeros, since what is masked is still multiplied, if only by 0.
            self._store = _zeros((*outer, D, PAGE), like), _zeros((*outer, PAGE, D), like)
        keys, values = self._store
        return keys[layer], values[layer]


def _zeros(shape: Sequence[int], like: Tensor) -> Tensor:
    """Zeros of another's precision, on its device. On CPUs the system clears them as they are first touched."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    return torch.frombuffer(mmap.mmap(-1, math.prod(shape) * like.itemsize), dtype=like.dtype).view(*shape)


def num_pages(num_tokens: int) -> int:
    """How many pages so many tokens take."""
    return -(-num_tokens // PAGE)
