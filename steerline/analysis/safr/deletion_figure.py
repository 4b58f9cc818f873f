"""Deletion curves: accuracy over the share of deleted tokens, against deletion at random."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.analysis.safr.deletion import RANDOM, DeletionCurves
from steerline.errors import EvaluationError
from steerline.evaluation.statistics import bootstrap_interval


def deletion_figure(curves: Mapping[str, DeletionCurves], *, heading: str = "Deletion of tokens") -> Figure:
    """A panel for each run: accuracy as tokens are deleted by each score, and at random (grey).

    Raises:
        EvaluationError: there is no run.
    """
    if not curves:
        raise EvaluationError("there is no deletion curve to draw", fix="pass at least one run's curves")
    figure = style.new_figure(max(5.2, 3.7 * len(curves) + 0.6), 3.9)
    rows = {len(run.intact) for run in curves.values()}
    draws = {run.draws for run in curves.values()}
    note = f"{_few(rows)} rows. Bands: 95 % bootstrap intervals over rows. Random: mean of {_few(draws)} draws."
    style.heading(figure, heading, note)
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (label, run) in zip(panels, curves.items(), strict=True):
        _panel(axes, run)
        style.title(axes, label)
        axes.set_xlabel("deleted tokens (%)")
        style.tidy(axes)
    panels[0].set_ylabel("accuracy (%)")
    panels[0].legend(frameon=False, fontsize=9)
    return figure


def _few(numbers: set[int]) -> str:
    return " and ".join(map(str, sorted(numbers)))


def _panel(axes: Axes, run: DeletionCurves) -> None:
    scores = [name for name in run.correct if name != RANDOM]
    # Random deletion is the reference: grey, with a broken line.
    palette = {**style.colours(scores), RANDOM: style.REFERENCE}
    shapes = style.markers([*scores, RANDOM])
    shares = 100 * np.array([0.0, *run.shares])
    whole = bootstrap_interval(run.intact)
    for name in [RANDOM, *scores]:
        intervals = [whole, *run.intervals(name)]
        low, high = zip(*((100 * interval.low, 100 * interval.high) for interval in intervals), strict=True)
        axes.fill_between(shares, low, high, color=palette[name], alpha=0.13, linewidth=0)
        axes.plot(
            shares, [100 * interval.mean for interval in intervals], color=palette[name], marker=shapes[name],
            markersize=4.5, linewidth=1.6, linestyle="--" if name == RANDOM else "-",
            label=name if name == RANDOM else f"by {name}",
        )  # fmt: skip
    axes.set_xticks(shares)
