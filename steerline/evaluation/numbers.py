"""The number a text ends with."""

from __future__ import annotations

import re

# A minus belongs to the number unless it stands between two operands, as in "20-4".
# "3/4" is one number; a third part ("1/2/2024") makes it a date, of which the last part counts.
_NUMBER = re.compile(
    r"""(?:(?<![\w.)])-)?              # sign
        (?:\d+(?:\.\d+)?|\.\d+)        # 12, 12.5, .5
        (?:/\d+(?:\.\d+)?)?           # quotient
    """,
    re.VERBOSE,
)


def last_number(text: str) -> float | None:
    """The last number of a text, or None.

    The LLM-Adapters protocol: commas are removed first, so "1,234.50" is one number. Currency signs, units and a full
    stop after the number do not matter; "-$5" and "$-5" are both -5; "3/4" is 0.75, and a division by zero is none.
    """
    cleaned = re.sub(r"-\s?\$", "-", text.replace(",", "")).replace("$", "")
    for match in reversed(list(_NUMBER.finditer(cleaned))):
        numerator, _, denominator = match.group().partition("/")
        if not denominator:
            return float(numerator)
        if float(denominator) != 0:
            return float(numerator) / float(denominator)
    return None


def same_number(a: float, b: float, tolerance: float = 1e-3) -> bool:
    """Equal up to the protocol's absolute tolerance."""
    return abs(a - b) <= tolerance
