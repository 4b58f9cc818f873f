"""Key entropy by layer over training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from steerline.analysis.infosteer import style
from steerline.analysis.infosteer.history import EntropyHistory, Floats
from steerline.errors import EvaluationError


def entropy_figure(runs: Mapping[str, EntropyHistory], *, heading: str = "Key entropy by layer") -> Figure:
    """One heat map for each run (layers over steps), and under them the runs together.

    The heat maps show the change since the run's first step: layers differ by more than training moves them. Below, on
    the left that change's mean over layers, with the middle half of the layers as a band, on the right the effective
    number of memories exp(H) of each layer at the start (open) and at the end (filled).

    Raises:
        EvaluationError: there is no run.
    """
    if not runs:
        raise EvaluationError("there is no run to draw", fix="pass at least one run's key entropies")
    figure = style.new_figure(max(8.0, 4.0 * len(runs)), 7.2)
    style.heading(
        figure, heading, "H: entropy of a token's FFN keys in nats, mean over tokens. exp(H): effective memories."
    )
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.15, 1))
    top, bottom = parts[0, 0], parts[1, 0]
    _heat_maps(top, runs)
    left, right = bottom.subplots(1, 2)
    palette, shapes = style.colours(runs), style.markers(runs)
    for label, run in runs.items():
        _over_training(left, label, run, palette[label])
        _profile(right, label, run, palette[label], shapes[label])
    _label(left, "Mean over layers (band: middle half)", "optimiser step", "change of H (nats)")
    _label(right, "Each layer: start (open), end (filled)", "layer", "effective memories exp(H)")
    left.axhline(0, color=style.REFERENCE, linewidth=1.2, linestyle="--")
    # For both panels and beside neither's data: inside, a flat curve leaves no corner free of the zero line.
    bottom.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    style.title(axes, title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    style.tidy(axes)


def _heat_maps(figure: SubFigure, runs: Mapping[str, EntropyHistory]) -> None:
    changes = {label: run.entropy - run.entropy[0] for label, run in runs.items()}
    largest = max(float(np.abs(change).max()) for change in changes.values()) or 1e-9
    panels = figure.subplots(1, len(runs), squeeze=False, sharey=True)[0]
    scale = Normalize(-largest, largest)
    for axes, (label, run) in zip(panels, runs.items(), strict=True):
        axes.pcolormesh(
            _edges(run.steps.astype(np.float64)),
            _edges(np.array(run.layers, dtype=np.float64)),
            changes[label].T,
            cmap=style.DIVERGING,
            norm=scale,
            rasterized=True,
        )
        style.title(axes, label)
        style.tidy(axes, grid="none")
        axes.set_xlabel("optimiser step")
    panels[0].set_ylabel("layer")
    bar = figure.colorbar(ScalarMappable(scale, style.DIVERGING), ax=list(panels), pad=0.01, aspect=28)
    bar.set_label("change of H since the first step (nats)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _edges(centres: Floats) -> Floats:
    """Cell borders halfway between neighbours, so that unevenly logged steps keep their place on the axis."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[:-1] + centres[1:]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _over_training(axes: Axes, label: str, run: EntropyHistory, colour: str) -> None:
    change = run.entropy - run.entropy[0]
    low, high = np.quantile(change, [0.25, 0.75], axis=1)
    axes.fill_between(run.steps, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.plot(run.steps, change.mean(axis=1), color=colour, linewidth=1.8, label=label)


def _profile(axes: Axes, label: str, run: EntropyHistory, colour: str, marker: str) -> None:
    memories = run.effective_memories
    axes.plot(
        run.layers,
        memories[0],
        color=colour,
        marker=marker,
        markerfacecolor="white",
        linewidth=0.8,
        markersize=4,
        linestyle=":",
    )
    axes.plot(run.layers, memories[-1], color=colour, marker=marker, linewidth=1.4, markersize=4, label=label)
