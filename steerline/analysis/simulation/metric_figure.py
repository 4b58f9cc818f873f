"""A simulation's numbers over its ticks: each combination's mean over seeds, with its spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style

_MOST_PANELS = 9


def metric_figure(series: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], *, heading: str) -> Figure:
    """A panel for each metric, a line for each combination.

    Args:
        series: metric to combination to its runs' values after each tick; runs may differ in length. At most nine
            metrics are drawn.
        heading: the figure's.

    Returns:
        Lines are means over the runs that have the tick, bands their smallest and largest value.
    """
    shown = dict(list(series.items())[:_MOST_PANELS])
    columns = min(3, max(1, len(shown)))
    lines = max(1, -(-len(shown) // columns))
    figure = style.new_figure(4.0 * columns, 2.8 * lines + 0.6)
    style.heading(figure, heading, "Lines: mean over seeds. Bands: smallest to largest.")
    places = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, points) in zip(places, shown.items(), strict=False):
        for label, runs in points.items():
            length = max(len(run) for run in runs)
            table = np.full((len(runs), length), np.nan)
            for row, run in zip(table, runs, strict=True):
                row[: len(run)] = run
            ticks, colour = np.arange(length), style.colours(points)[label]
            axes.plot(ticks, np.nanmean(table, axis=0), color=colour, linewidth=1.6, label=label or None)
            if len(runs) > 1:
                low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
                axes.fill_between(ticks, low, high, color=colour, alpha=0.15, linewidth=0)
        style.title(axes, name.replace("_", " "))
        axes.set_xlabel("tick")
        style.tidy(axes)
    if len(next(iter(shown.values()), {})) > 1:
        places[0].legend(frameon=False, fontsize=8)
    for axes in places[len(shown) :]:
        axes.set_visible(False)
    return figure
