"""One line of progress that a person can read and a terminal can turn into a bar.

A job prints these lines; whoever follows its log may parse them. The form is
`steerline: step=12/40 loss=2.31 tokens_per_s=812`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LINE = re.compile(r"(?:^|\s)steerline: step=(\d+)/(\d+)((?: [^\s=]+=[^\s=]+)*)\s*$")


@dataclass(frozen=True)
class Progress:
    """What one progress line says."""

    step: int
    """Optimiser steps done."""
    total: int
    """Optimiser steps in the run."""
    values: Mapping[str, float]
    """Named numbers, in the order printed."""


def format_progress(step: int, total: int, values: Mapping[str, float]) -> str:
    """One line of progress.

    Args:
        step: optimiser steps done.
        total: optimiser steps in the run.
        values: named numbers; names hold neither spaces nor `=`.

    Raises:
        ValueError: a name would make the line unreadable.
    """
    for name in values:
        if not name or re.search(r"[\s=]", name):
            raise ValueError(f"a progress value needs a name without spaces and `=`, got {name!r}")
    numbers = "".join(f" {name}={value:.5g}" for name, value in values.items())
    return f"steerline: step={step}/{total}{numbers}"


def parse_progress(line: str) -> Progress | None:
    """Read a line back; anything before the mark (a Ray worker's prefix) is skipped. None for any other line."""
    match = _LINE.search(_without_colour(line))
    if match is None:
        return None
    step, total, rest = match.groups()
    values: dict[str, float] = {}
    for pair in rest.split():
        name, _, number = pair.partition("=")
        try:
            values[name] = float(number)
        except ValueError:
            return None
    return Progress(step=int(step), total=int(total), values=values)


def _without_colour(line: str) -> str:
    # Ray colours the prefix of forwarded worker lines.
    return re.sub(r"\x1b\[[0-9;]*m", "", line)
