"""How much of a text was there before, by runs of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

WIDTH = 5
"""Words of a run."""


def repeated_share(texts: Sequence[str]) -> float:
    """Share of the word runs of all texts that stood in an earlier one (or earlier in the same); 0 without any."""
    seen: set[tuple[str, ...]] = set()
    again = total = 0
    for text in texts:
        for run in _runs(text):
            total += 1
            again += run in seen
            seen.add(run)
    return again / total if total else 0.0


def similarity(texts: Sequence[str]) -> float | None:
    """Mean share of words that two of the texts have in common (Jaccard); none with fewer than two texts."""
    words = [frozenset(text.lower().split()) for text in texts]
    pairs = [len(a & b) / len(a | b) if a | b else 1.0 for a, b in combinations(words, 2)]
    return sum(pairs) / len(pairs) if pairs else None


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = text.split()
    yield from (tuple(words[at : at + WIDTH]) for at in range(len(words) - WIDTH + 1))
