"""A row's text while its tokens come: whole characters, and nothing of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NO_CHARACTER = "\ufffd"
_OPEN = 3
"""Tokens at the end of a text in which a character may have begun that is not whole: it has at most four bytes."""
_LONGEST_SEGMENT = 16


class Text:
    """What may be shown of a text so far, and where it ends.

    Tokens are decoded in segments that end between characters, each with the one before it as its context, so that a
    token's cost does not grow with the text.

    Args:
        tokenizer: the model's.
        stops: texts that end it; they are not part of it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._context: list[int] = []
        self._segment: list[int] = []
        self._read = 0
        """Characters of context and segment that were read."""
        self._held = ""
        """Read and not shown: a stop text may begin in it."""
        self.stopped = False
        """Whether a stop text came; then nothing follows."""
        self.length = 0
        """Characters that were read, a stop text's beginning among them."""

    def add(self, token: int) -> str:
        """What may be shown now that this token has come."""
        self._segment.append(token)
        decoded = self._decoded()
        whole = decoded.rstrip(_NO_CHARACTER)  # it may become a character
        self._held += whole[self._read :]
        self.length += max(0, len(whole) - self._read)
        if whole == decoded:
            self._context, self._segment = self._segment, []
            self._read = len(self._decoded())
        else:
            self._read = max(self._read, len(whole))
            if len(self._segment) > _LONGEST_SEGMENT:
                self._cut()
        return self._show()

    def end(self) -> str:
        """What is left to show at the end."""
        rest = self._decoded()[self._read :]
        self._segment = []
        self.length += len(rest)
        self._held += rest
        shown = self._show()
        if not self.stopped:
            shown, self._held = shown + self._held, ""
        return shown

    def _cut(self) -> None:
        """Ends a segment before its last tokens, where nothing becomes a character any more."""
        last = self._segment[-_OPEN:]
        del self._segment[-_OPEN:]
        settled = self._decoded()
        self._held += settled[self._read :]
        self.length += max(0, len(settled) - self._read)
        ahead = max(0, self._read - len(settled))
        self._context, self._segment = self._segment, []
        self._read = len(self._decoded()) + ahead
        self._segment = last

    def _decoded(self) -> str:
        return str(self._tokenizer.decode([*self._context, *self._segment], skip_special_tokens=True))

    def _show(self) -> str:
        """Takes what can be no part of a stop text from what is held."""
        places = [place for place in map(self._held.find, self._stops) if place >= 0]
        if places:
            self.stopped = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        hold = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - hold
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` with which `stop` begins."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
