"""What prompts begin with is computed once, and kept for those that follow: a tree of pages for each kind of row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from steerline.inference.pages import PAGE, Pages

LEAST_TOKENS = 32
"""A shorter beginning is not worth waiting for, or copying."""


class Beginning(NamedTuple):
    """What is there of a prompt's beginning."""

    pages: tuple[int, ...]
    """Whole ones, to be shared."""
    part: int | None = None
    """A page whose first tokens belong to it too, to be copied."""
    num_tokens: int = 0


@dataclass(eq=False)
class _Node:
    """A page, after those of its parents; tokens may fill it in part."""

    page: int
    tokens: tuple[int, ...]
    parent: _Node | None
    children: dict[tuple[int, ...], _Node] = field(default_factory=dict)


class Prefixes:
    """Beginnings of prompts that were computed, as pages.

    Keys and values depend on the row's variant, its steering and its adapter, and on all tokens before, so that a page
    is found by both. They are those of a pass over the whole prompt, up to rounding. When the pool needs room, what was
    unused for longest goes first.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._roots: dict[Hashable, _Node] = {}
        # A node comes before its parent: what is used is moved to the end, the deepest first.
        self._by_age: OrderedDict[_Node, None] = OrderedDict()

    def find(self, prompt: Sequence[int], variant: Hashable) -> Beginning:
        """The longest kept beginning of a prompt, short of its last token: something must be left to compute."""
        node = self._roots.get(variant)
        path: list[_Node] = []
        most = len(prompt) - 1
        while node is not None and (len(path) + 1) * PAGE <= most:
            node = node.children.get(tuple(prompt[len(path) * PAGE : (len(path) + 1) * PAGE]))
            if node is not None:
                path.append(node)
        last = path[-1] if path else self._roots.get(variant)
        rest = prompt[len(path) * PAGE : most]
        part, length = _closest(last, rest) if last is not None else (None, 0)
        num_tokens = len(path) * PAGE + length
        if num_tokens < LEAST_TOKENS:
            return Beginning(())
        self._touch(part or last)
        return Beginning(tuple(node.page for node in path), None if part is None else part.page, num_tokens)

    def keep(self, tokens: Sequence[int], pages: Sequence[int], variant: Hashable) -> None:
        """Keeps the pages that hold these tokens. Their row may write on behind them."""
        node = self._roots.setdefault(variant, _Node(-1, (), None))
        for place, page in enumerate(pages[: -(-len(tokens) // PAGE)]):
            chunk = tuple(tokens[place * PAGE : (place + 1) * PAGE])
            node = _holder(node, chunk) or self._extended(node, chunk, page) or self._added(node, chunk, page)
        self._touch(node)

    def evict(self) -> bool:
        """Gives up the page that was unused for longest and that no row holds; false when there is none."""
        for node in self._by_age:
            if self._pages.uses(node.page) == 1 and not node.children:
                self._drop(node)
                return True
        return False

    def num_evictable(self) -> int:
        """How many pages `evict` could give up, one after another."""
        needed: set[_Node] = set()  # by pages after them that rows hold
        for node in self._by_age:
            if node.parent is not None and (node in needed or self._pages.uses(node.page) > 1):
                needed.add(node)
                needed.add(node.parent)
        return sum(node not in needed for node in self._by_age)

    def _extended(self, parent: _Node, chunk: tuple[int, ...], page: int) -> _Node | None:
        """The node of the same page, which has got more tokens since; or of a shorter copy, which is given up."""
        for key, node in parent.children.items():
            if len(key) < len(chunk) and chunk[: len(key)] == key:
                del parent.children[key]
                parent.children[chunk] = node
                node.tokens = chunk
                if node.page != page:
                    self._pages.hold(page)
                    self._pages.release(node.page)
                    node.page = page
                return node
        return None

    def _added(self, parent: _Node, chunk: tuple[int, ...], page: int) -> _Node:
        node = parent.children[chunk] = _Node(page, chunk, parent)
        self._pages.hold(page)
        self._by_age[node] = None
        return node

    def _drop(self, node: _Node) -> None:
        del self._by_age[node]
        assert node.parent is not None, "roots have no page"
        del node.parent.children[node.tokens]
        self._pages.release(node.page)
        if node.parent.parent is None and not node.parent.children:
            self._roots = {variant: root for variant, root in self._roots.items() if root is not node.parent}

    def _touch(self, node: _Node | None) -> None:
        while node is not None and node.parent is not None:
            self._by_age.move_to_end(node)
            node = node.parent


def _holder(parent: _Node, chunk: tuple[int, ...]) -> _Node | None:
    """The child that holds these tokens, and perhaps more."""
    if chunk in parent.children or len(chunk) == PAGE:
        return parent.children.get(chunk)
    return next((node for tokens, node in parent.children.items() if tokens[: len(chunk)] == chunk), None)


def _closest(node: _Node, rest: Sequence[int]) -> tuple[_Node | None, int]:
    """The child that begins most like `rest`, and how many tokens they share."""
    best, most = None, 0
    for child in node.children.values():
        length = common_length(child.tokens, rest)
        if length > most:
            best, most = child, length
    return best, most


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that both begin with."""
    limit = min(len(first), len(second))
    if list(first[:limit]) == list(second[:limit]):
        return limit
    return next(place for place in range(limit) if first[place] != second[place])
