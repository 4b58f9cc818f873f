"""Regular expressions from strangers: how many ways there are to try one, which backtracking may have to try all."""

from __future__ import annotations

from collections.abc import Iterable
from re import _constants as codes  # type: ignore[attr-defined]  # the only parser that reads them as `re` does
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

LONGEST_TEXT = 20_000
"""Characters of a text that they are matched against."""
MOST_WAYS = 100_000
"""Ways from one place of a text; one open repetition such as `.*` has as many as the text has characters."""
_POWERS = 17  # two ways to the power of it are beyond the bound already


def ways(pattern: str) -> float:
    """How many ways of matching a valid pattern may be tried from one place of a text, at most."""
    return _ways(parser.parse(pattern))


def _ways(parsed: Iterable[tuple[Any, Any]]) -> float:
    found = 1.0
    for code, value in parsed:
        found *= _ways_of(code, value)
    return found


def _ways_of(code: Any, value: Any) -> float:
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        low, high, body = value
        counts = min(high, LONGEST_TEXT) - min(low, LONGEST_TEXT) + 1
        inner = _ways(body)
        # One repetition inside another shares the text out in as many ways as there are powers.
        return float(counts * min(inner, MOST_WAYS) ** min(high, _POWERS))
    if code is codes.BRANCH:
        return sum(_ways(branch) for branch in value[1])
    if code is codes.GROUPREF_EXISTS:
        _, yes, no = value
        return _ways(yes) + (1.0 if no is None else _ways(no))
    if code in (codes.SUBPATTERN, codes.ASSERT, codes.ASSERT_NOT):
        return _ways(value[-1])
    if code is codes.ATOMIC_GROUP:
        return _ways(value)
    return 1.0
