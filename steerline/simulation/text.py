"""Agents' texts are hostile until they are cleaned, and stay recognisable as an agent's where others read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

# Control characters but for tab and newline; lone surrogates; marks that turn or hide text on a screen.
_HOSTILE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]"
)
QUOTE = "> "


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text that can be logged, shown and parsed."""

    text: str
    removed: int = 0
    """Characters taken out because they control a terminal, or are no text."""
    cut: int = 0
    """Characters beyond the longest text allowed."""


def clean(text: str, max_chars: int) -> Cleaned:
    """Take out what is no text, and cut what is too long."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    cut = max(0, len(text) - max_chars)
    kept = _HOSTILE.sub("", text[:max_chars])
    return Cleaned(kept, len(text) - cut - len(kept), cut)


def cleaned_data(value: Any) -> Any:
    """Plain data with every text in it cleaned: JSON can spell what the text around it could not hold."""
    match value:
        case str():
            return clean(value, len(value)).text
        case list():
            return [cleaned_data(item) for item in value]
        case dict():
            return {clean(key, len(key)).text: cleaned_data(item) for key, item in value.items()}
    return value


def quoted(text: str) -> str:
    """An agent's words in another agent's prompt: each line is marked, so that none passes for the prompt's own."""
    return "\n".join(QUOTE + line for line in text.splitlines())


def unquoted(text: str) -> str:
    """A text without the lines that quote others; they say nothing about what the writer decided."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(QUOTE.strip()))
