"""Strength sweeps and layer groups, from tables of results (the paper's tables 2 and 8 as figures)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.errors import EvaluationError
from steerline.evaluation.statistics import Interval


@dataclass(frozen=True)
class SweepPoint:
    """One setting of a sweep: the swept value, the outcome (a share, 0..1) with its interval, and the curve it is
    on.
    """

    value: float
    outcome: Interval
    series: str


def sweep_figure(
    points: Sequence[SweepPoint],
    references: Mapping[str, Interval],
    *,
    axis: str,
    heading: str = "Accuracy over steering strength",
    outcome: str = "mean accuracy (%)",
    log: bool = False,
) -> Figure:
    """A curve for each series (say, a fraction p), over the swept value (say, alpha), with plain runs as level lines.

    Args:
        points: settings with their outcomes, in any order.
        references: label -> outcome of a run without steering, drawn as a line with its interval as a band.
        axis: what is swept, with its unit.
        heading: the figure's title.
        outcome: what is measured.
        log: logarithmic axis; a value of 0 or less (the negative control) makes it symmetric around 0.

    Raises:
        EvaluationError: there is no point.
    """
    if not points:
        raise EvaluationError("there is no point to draw", fix="pass at least one setting with its outcome")
    figure = style.new_figure(7.2, 4.4)
    style.heading(figure, heading, "Bars and bands: bootstrap intervals over items.")
    axes = figure.subplots()
    _levels(axes, references)
    series = list(dict.fromkeys(point.series for point in points))
    palette, shapes = style.colours(series), style.markers(series)
    for name in series:
        line = sorted((point for point in points if point.series == name), key=lambda point: point.value)
        means = np.array([100 * point.outcome.mean for point in line])
        arms = [
            means - [100 * point.outcome.low for point in line],
            [100 * point.outcome.high for point in line] - means,
        ]
        axes.errorbar(
            [point.value for point in line], means, yerr=arms, color=palette[name], marker=shapes[name], markersize=5,
            linewidth=1.5, capsize=2.5, elinewidth=1, label=name,
        )  # fmt: skip
    if log:
        _logarithmic(axes, [point.value for point in points])
    # The settings that were run, not powers of ten between them.
    values = sorted({point.value for point in points})
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set_xlabel(axis)
    axes.set_ylabel(outcome)
    style.tidy(axes)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _levels(axes: Axes, references: Mapping[str, Interval]) -> None:
    for label, reference in references.items():
        colour = style.REFERENCE if label.lower().startswith("base") else style.INK
        axes.axhspan(100 * reference.low, 100 * reference.high, color=colour, alpha=0.07, linewidth=0)
        axes.axhline(100 * reference.mean, color=colour, linewidth=1.3, linestyle="--")
        axes.text(
            1.01, 100 * reference.mean, label, transform=axes.get_yaxis_transform(), va="center", fontsize=9,
            color=colour,
        )  # fmt: skip


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    if min(values) > 0:
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min((abs(value) for value in values if value), default=1.0))


@dataclass(frozen=True)
class LayerGroup:
    """A run that steered some layers: its label, the layers, and the outcome (a share, 0..1) with its interval."""

    label: str
    layers: tuple[int, ...]
    outcome: Interval


def layer_group_figure(
    groups: Sequence[LayerGroup],
    num_layers: int,
    references: Mapping[str, Interval],
    *,
    heading: str = "Which layers to steer",
    outcome: str = "mean accuracy (%)",
) -> Figure:
    """On the left which layers each run steered, on the right how it did, with plain runs as level lines.

    Raises:
        EvaluationError: there is no group, or one names a layer that does not exist.
    """
    if not groups:
        raise EvaluationError("there is no layer group to draw", fix="pass at least one run")
    for group in groups:
        if any(not 0 <= layer < num_layers for layer in group.layers):
            raise EvaluationError(
                "no such layer", where=group.label, got=group.layers, expected=f"0 to {num_layers - 1}"
            )
    colour = style.colours(["steered"])["steered"]
    figure = style.new_figure(9.0, 1.7 + 0.38 * len(groups))
    style.heading(figure, heading, "Bars and bands: bootstrap intervals over items.")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.3))
    for row, group in enumerate(groups):
        left.barh([row] * num_layers, 0.86, 0.6, left=np.arange(num_layers) - 0.43, color=style.GRID)
        left.barh([row] * len(group.layers), 0.86, 0.6, left=np.array(group.layers) - 0.43, color=colour)
        mean = 100 * group.outcome.mean
        arms = [[mean - 100 * group.outcome.low], [100 * group.outcome.high - mean]]
        right.errorbar([mean], [row], xerr=arms, fmt="o", color=colour, ecolor=style.INK, capsize=3, elinewidth=1.2)
        right.text(1.02, row, f"{mean:.1f}", transform=right.get_yaxis_transform(), va="center", fontsize=9)
    for label, reference in references.items():
        shade = style.REFERENCE if label.lower().startswith("base") else style.INK
        right.axvspan(100 * reference.low, 100 * reference.high, color=shade, alpha=0.07, linewidth=0)
        right.axvline(100 * reference.mean, color=shade, linewidth=1.3, linestyle="--")
        right.text(
            100 * reference.mean, 1.01, label, transform=right.get_xaxis_transform(), ha="center", va="bottom",
            fontsize=9, color=shade,
        )  # fmt: skip
    left.set_yticks(range(len(groups)), [group.label for group in groups])
    left.set_ylim(len(groups) - 0.4, -0.6)
    left.set_xlabel("layer")
    right.set_xlabel(outcome)
    for axes in (left, right):
        style.tidy(axes, grid="none" if axes is left else "x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return figure
