"""The look shared by all figures: sizes, colours that colour-blind readers can tell apart, and PNG at 150 dpi.

Figures are plain `Figure` objects: no global plotting state, so they can be drawn in any process or thread.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 150
INK = "#222222"
MUTED = "#6b6b6b"
GRID = "#dddddd"
REFERENCE = "#8c8c8c"

# Okabe and Ito's palette, strongest contrasts first; yellow is left out, being unreadable on white.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Perceptually even and readable without colour; the diverging one has its neutral at no change.
SEQUENTIAL = "cividis"
DIVERGING = "PuOr_r"


def new_figure(width: float, height: float) -> Figure:
    """A white figure of so many inches whose parts keep clear of each other."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def colours(labels: Iterable[str]) -> dict[str, str]:
    """One colour for each run, in order. A run called "base" is the grey reference."""
    result: dict[str, str] = {}
    position = 0
    for label in labels:
        if label.lower().startswith("base"):
            result[label] = REFERENCE
        else:
            result[label] = _PALETTE[position % len(_PALETTE)]
            position += 1
    return result


def markers(labels: Iterable[str]) -> dict[str, str]:
    """One marker for each run, so that lines are told apart without colour too."""
    return {label: _MARKERS[i % len(_MARKERS)] for i, label in enumerate(labels)}


def tidy(axes: Axes, *, grid: Literal["x", "y", "none"] = "y") -> None:
    """Remove what carries no information."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(REFERENCE)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.xaxis.label.set_fontsize(10)
    axes.yaxis.label.set_fontsize(10)
    if grid != "none":
        axes.grid(axis=grid, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def title(axes: Axes, text: str) -> None:
    """A panel's title, left-aligned."""
    axes.set_title(text, loc="left", fontsize=10.5, color=INK)


def heading(figure: Figure, text: str, note: str = "") -> None:
    """The figure's title, with an optional smaller line under it."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=13, color=INK, weight="bold")
    if note:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=MUTED)


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
