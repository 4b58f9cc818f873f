"""All points of a sweep at once: one line each through its axes to its metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.analysis.sweeps.axis import Placed
from steerline.analysis.sweeps.response_figure import Response
from steerline.errors import EvaluationError

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


def parallel_figure(responses: Sequence[Response], axes: Sequence[str], *, metric: str) -> Figure:
    """Parallel coordinates: each axis from its smallest to its largest value (by ratio where it spans much), lines
    coloured by the metric.

    Args:
        responses: the points; one without an axis (a condition) has a gap there.
        axes: the axes' names.
        metric: what is measured.

    Raises:
        EvaluationError: there is no point.
    """
    if not responses:
        raise EvaluationError("there is no point to draw", fix="let the sweep finish a trial")
    figure = style.new_figure(max(6.0, 1.9 * (len(axes) + 1)), 4.2)
    style.heading(figure, f"Points of the sweep by {metric}")
    panel = figure.subplots()
    means = np.array([response.outcome.mean for response in responses])
    heights = np.full((len(responses), len(axes) + 1), np.nan)
    for column, axis in enumerate(axes):
        rows = [row for row, response in enumerate(responses) if axis in response.values]
        placed = Placed.of([responses[row].values[axis] for row in rows])
        positions = np.array(placed.positions)
        heights[rows, column] = _scaled(np.log(positions) if placed.is_log else positions)
        ends = (placed.ticks[0], placed.ticks[-1]) if placed.ticks else _ends(positions)
        for height, text in zip((-0.06, 1.03), ends, strict=True):
            panel.text(column, height, text, ha="center", fontsize=8, color=style.MUTED)
    heights[:, -1] = _scaled(means)
    norm = Normalize(float(means.min()), float(means.max()))
    colours = colormaps[style.SEQUENTIAL](norm(means))
    for row in np.argsort(means):
        panel.plot(range(len(axes) + 1), heights[row], color=colours[row], linewidth=1.3, alpha=0.85)
    for height, text in zip((-0.06, 1.03), _ends(means), strict=True):
        panel.text(len(axes), height, text, ha="center", fontsize=8, color=style.MUTED)
    panel.set_xticks(range(len(axes) + 1), [*axes, metric])
    panel.set_yticks([])
    panel.set_ylim(-0.1, 1.1)
    style.tidy(panel, grid="x")
    panel.spines["left"].set_visible(False)
    figure.colorbar(ScalarMappable(norm, style.SEQUENTIAL), ax=panel, label=metric)
    return figure


def _ends(values: Floats) -> tuple[str, str]:
    return f"{values.min():.3g}", f"{values.max():.3g}"


def _scaled(values: Floats) -> Floats:
    """Values between 0 and 1; all in the middle where they are equal."""
    span = np.ptp(values) if len(values) else 0.0
    return (values - values.min()) / span if span else np.full(values.shape, 0.5)
