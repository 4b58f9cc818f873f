"""Which rows a pass computes, and how much of each: who joins, who waits for whom, who gives up its pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from steerline.inference.pages import PAGE, Pages, num_pages
from steerline.inference.prefixes import LEAST_TOKENS, Prefixes, common_length
from steerline.inference.row import Row

_ALONE = 4  # chunks in a pass that no row waits for


@dataclass(frozen=True)
class EngineLimits:
    """What an engine takes on."""

    rows: int = 64
    """Most rows at once."""
    tokens: int = 16384
    """Tokens that running rows and kept beginnings hold in memory together. For a longer row the memory grows."""
    waiting: int = 1024
    """Rows that wait, above which more are turned away."""
    chunk: int = 256
    """Most tokens of prompts in a pass that other rows wait for."""


class Part(NamedTuple):
    """What a pass computes of a row."""

    row: Row
    length: int
    """Tokens, from the first that is not computed."""


class Schedule:
    """The running rows, in the order in which they joined, and their pages."""

    def __init__(self, pages: Pages, limits: EngineLimits) -> None:
        self.rows: list[Row] = []
        self._pages = pages
        self._prefixes = Prefixes(pages)
        self._limits = limits

    def join(self, row: Row) -> bool:
        """Lets a row run, with what is kept of its beginning; false when it must wait."""
        if len(self.rows) == self._limits.rows:
            return False
        tokens = row.tokens(0, row.length)
        found = self._prefixes.find(tokens, row.variant)
        if self._is_being_computed(row, tokens, found.num_tokens):
            return False
        held = [*found.pages, *([] if found.part is None else [found.part])]
        for page in held:
            self._pages.hold(page)
        need = num_pages(row.length) + 1 - len(found.pages)
        fits = need <= self._pages.num_free or need <= self._pages.num_free + self._prefixes.num_evictable()
        if not fits and self.rows:
            for page in held:
                self._pages.release(page)
            return False
        row.pages = list(found.pages)
        self.rows.append(row)
        row.computed = len(found.pages) * PAGE
        if found.part is not None:
            has_room = self._has_room(row, found.num_tokens)
            if has_room:
                self._pages.copy(found.part, row.pages[-1], found.num_tokens - row.computed)
                row.computed = found.num_tokens
            self._pages.release(found.part)
            if not has_room:
                return False
        if not row.new:
            row.cached_tokens = row.computed
        return True

    def plan(self) -> tuple[list[Part], list[Row]]:
        """What the next pass computes; and rows that gave up their pages for it, the oldest first."""
        ready = any(not row.is_prefilling for row in self.rows)
        budget = self._limits.chunk * (1 if ready else _ALONE)
        parts: list[Part] = []
        before = list(self.rows)
        for row in before:
            left = row.length - row.computed
            length = 1 if left == 1 else min(left, budget)
            if row in self.rows and length and self._has_room(row, row.computed + length):
                parts.append(Part(row, length))
                budget -= length if left > 1 else 0
        return parts, [row for row in before if row not in self.rows]

    def computed(self, parts: Sequence[Part]) -> None:
        """These have their keys and values; beginnings are kept as they come, for those who wait for them."""
        for row, length in parts:
            joins = row.is_prefilling or not row.new
            row.computed += length
            if joins:
                self._keep(row)

    def leave(self, row: Row) -> None:
        """A row is done, or is to begin again later. What it computed is kept while there is room."""
        self.rows.remove(row)
        self._keep(row)
        for page in row.pages:
            self._pages.release(page)
        row.pages, row.computed = [], 0

    def _keep(self, row: Row) -> None:
        self._prefixes.keep(row.tokens(0, row.computed), row.pages, row.variant)

    def _is_being_computed(self, row: Row, tokens: Sequence[int], known: int) -> bool:
        """Whether a row that runs is about to compute a good deal more of this one's beginning than is there."""
        for other in self.rows:
            if other.is_prefilling and other.variant == row.variant:
                shared = min(common_length(other.prompt, tokens), len(tokens) - 1)
                if shared - known >= LEAST_TOKENS and other.computed < shared:
                    return True
        return False

    def _has_room(self, row: Row, num_tokens: int) -> bool:
        """Gives a row pages for so many tokens; the youngest row gives up its own for it, though it be the same."""
        while len(row.pages) < num_pages(num_tokens):
            if self._pages.num_free or self._prefixes.evict():
                row.pages.append(self._pages.take())
            elif len(self.rows) > 1:
                youngest = self.rows[-1]
                self.leave(youngest)
                if youngest is row:
                    return False
            else:
                self._pages.grow(num_pages(num_tokens) - len(row.pages))
        return True
