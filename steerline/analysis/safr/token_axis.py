"""Tokens of a sentence along an axis of a figure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

# More would be unreadable at the width of a page.
MAX_TOKENS = 32
_LONGEST = 12
_SHOWN = str.maketrans({"\n": "\u21b5", "\t": "\u21e5", "\u2581": " ", "\u0120": " "})


def token_labels(tokens: Sequence[str]) -> list[str]:
    """Tokens as labels: line breaks made visible, long ones cut, blank ones as a mark."""
    labels = []
    for token in tokens:
        text = token.translate(_SHOWN).strip() or "\u2423"
        labels.append(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026")
    return labels


def shown_note(num_tokens: int) -> str:
    """What a figure says of a sentence that it shows in part; empty where it shows all."""
    return f" The first {MAX_TOKENS} of {num_tokens} tokens." if num_tokens > MAX_TOKENS else ""


def label_tokens(axes: Axes, tokens: Sequence[str], *, which: str = "x", size: float = 8.5) -> None:
    """Put the tokens under the places 0, 1, ... of an axis; text is never read as mathematics."""
    places, labels = range(len(tokens)), token_labels(tokens)
    if which == "x":
        axes.set_xticks(places, labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    else:
        axes.set_yticks(places, labels, fontsize=size)
    for text in axes.get_xticklabels() if which == "x" else axes.get_yticklabels():
        text.set_parse_math(False)
