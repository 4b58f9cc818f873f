"""A text coloured by its information flux, as a web page and as a figure."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from steerline.analysis.infosteer import style
from steerline.analysis.infosteer.flux import Flux

# Low, medium, high: light to dark of one hue, so that the order survives colour blindness and grey print.
BIN_COLOURS = ("#fdf0d2", "#f2b04a", "#8f4400")
_BIN_INK = (style.INK, style.INK, "#ffffff")
BIN_NAMES = ("low", "medium", "high")

_FONT_SIZE = 10.5
_ADVANCE = 0.602 * _FONT_SIZE / 72  # inches a character, DejaVu Sans Mono
_LINE = 0.27
_MARGIN = 0.25


def flux_html(flux: Flux, *, title: str = "Information flux", edges: tuple[float, float] | None = None) -> str:
    """A page without scripts: the text with each token's colour, its value on hovering, and the legend."""
    cuts = edges or flux.edges
    words = "".join(
        f'<span class="b{part}" title="{value:.3f} nats, exp(H) {np.exp(value):.0f}">{_visible(token)}</span>'
        for token, part, value in zip(flux.tokens, flux.bins(edges), flux.flux, strict=True)
    )
    rules = "".join(
        f".b{i}{{background:{colour};color:{ink}}}"
        for i, (colour, ink) in enumerate(zip(BIN_COLOURS, _BIN_INK, strict=True))
    )
    limits = (f"below {cuts[0]:.3f}", f"{cuts[0]:.3f} to {cuts[1]:.3f}", f"above {cuts[1]:.3f}")
    legend = " ".join(
        f'<span class="b{i}">&nbsp;{name}: {limit} nats&nbsp;</span>'
        for i, (name, limit) in enumerate(zip(BIN_NAMES, limits, strict=True))
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>'
        f"body{{font:16px/1.9 system-ui,sans-serif;max-width:46em;margin:2em auto;color:{style.INK}}}"
        f"span{{border-radius:3px;padding:2px 0}}{rules}</style></head><body><h1>{html.escape(title)}</h1>"
        f"<p>{legend}</p><p>{words}</p></body></html>\n"
    )


def _visible(token: str) -> str:
    return html.escape(token).replace("\n", "&#8629;<br>")


def flux_figure(
    flux: Flux, *, heading: str = "Information flux", edges: tuple[float, float] | None = None, width: float = 9.0
) -> Figure:
    """The text in a fixed-width font, each token on its bin's colour, wrapped to the figure's width in inches."""
    places = list(_wrap(flux.tokens, int((width - 2 * _MARGIN) / _ADVANCE)))
    top = 1.0
    height = top + _LINE * (1 + max(row for _, row, _ in places)) + _MARGIN
    figure = style.new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    axes.text(_MARGIN, 0.28, heading, fontsize=13, weight="bold", color=style.INK, va="center")
    cuts = edges or flux.edges
    limits = (f"below {cuts[0]:.3f}", f"{cuts[0]:.3f} to {cuts[1]:.3f}", f"above {cuts[1]:.3f} nats")
    for i, (name, limit) in enumerate(zip(BIN_NAMES, limits, strict=True)):
        left = _MARGIN + 2.1 * i
        axes.add_patch(Rectangle((left, 0.53), 2.0, 0.22, facecolor=BIN_COLOURS[i]))
        axes.text(left + 0.08, 0.64, f"{name}: {limit}", fontsize=9, va="center", color=_BIN_INK[i])
    bins = flux.bins(edges)
    for token, row, column in places:
        text = _flat(flux.tokens[token])
        left, middle, part = _MARGIN + column * _ADVANCE, top + _LINE * (row + 0.5), int(bins[token])
        axes.add_patch(
            Rectangle(
                (left, middle - 0.46 * _LINE), len(text) * _ADVANCE, 0.92 * _LINE, facecolor=BIN_COLOURS[part],
                edgecolor="white", linewidth=0.8,
            )
        )  # fmt: skip
        axes.text(
            left, middle, text, fontsize=_FONT_SIZE, family="DejaVu Sans Mono", va="center_baseline",
            color=_BIN_INK[part], parse_math=False,
        )  # fmt: skip
    return figure


def _wrap(tokens: Sequence[str], columns: int) -> Iterator[tuple[int, int, int]]:
    """Token, line and column of each token that has text; a line break in a token ends its line."""
    row = column = 0
    for number, token in enumerate(tokens):
        text = _flat(token)
        if not text:
            continue
        if column and column + len(text) > columns:
            row, column = row + 1, 0
        yield number, row, column
        column += len(text)
        if "\n" in token:
            row, column = row + 1, 0


def _flat(token: str) -> str:
    return token.replace("\n", "\u21b5").replace("\t", " ")
