"""A measure over the grid of SAFR's two strengths."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from steerline.analysis.infosteer import style
from steerline.analysis.safr.grid import VANILLA, CellResult, Grid, strengths
from steerline.errors import EvaluationError


def grid_figure(grid: Grid, measures: Mapping[str, str], *, heading: str = "SAFR's strengths") -> Figure:
    """A panel for each measure: its mean over seeds at every setting, coloured by the difference from no SAFR.

    Args:
        grid: the runs.
        measures: name -> panel title.
        heading: the figure's title.

    Raises:
        EvaluationError: there is no measure, or the grid has no run without SAFR.
    """
    if not measures:
        raise EvaluationError("there is no measure to draw", fix="name at least one")
    columns = min(3, len(measures))
    lines = -(-len(measures) // columns)
    rows, places = strengths(grid)
    figure = style.new_figure(
        1.2 + (0.9 + 0.62 * max(3, len(places))) * columns, 1.1 + (0.8 + 0.46 * max(2, len(rows))) * lines
    )
    style.heading(
        figure,
        heading,
        f"Mean over {len(grid.seeds)} seeds, \u00b1 half its 95 % t interval. Colour: difference from (0, 0), "
        "framed. *: paired t-test over seeds, Holm-corrected p < 0.05.",
    )
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, title) in zip(panels, measures.items(), strict=False):
        _panel(axes, grid, {result.cell: result for result in grid.results(name)})
        style.title(axes, title)
    for axes in panels[len(measures) :]:
        axes.set_visible(False)
    return figure


def _panel(axes: Axes, grid: Grid, results: Mapping[tuple[float, float], CellResult]) -> None:
    rows, columns = strengths(grid)
    change = np.full((len(rows), len(columns)), np.nan)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            result = results.get((row, column))
            if result is None:
                axes.text(j, i, "-", ha="center", va="center", fontsize=8, color=style.MUTED)
                continue
            change[i, j] = 0.0 if result.difference is None else result.difference.mean
            star = "*" if result.p_holm is not None and result.p_holm < 0.05 else ""
            half = (result.value.high - result.value.low) / 2
            text = f"{result.value.mean:.3f}{star}\n\u00b1{half:.3f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color=style.INK)
    # Pale ends, so that the figures stay readable on every cell.
    largest = 2 * float(np.nanmax(np.abs(change))) if np.isfinite(change).any() else 0.0
    axes.imshow(change, cmap=style.DIVERGING, vmin=-(largest or 1.0), vmax=largest or 1.0, aspect="auto")
    if VANILLA in results:
        place = (columns.index(0.0) - 0.5, rows.index(0.0) - 0.5)
        axes.add_patch(_frame(place))
    axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    axes.set_xlabel("interaction strength")
    axes.set_ylabel("importance strength")
    style.tidy(axes, grid="none")


def _frame(corner: tuple[float, float]) -> Rectangle:
    return Rectangle(corner, 1, 1, fill=False, edgecolor=style.INK, linewidth=1.4)
