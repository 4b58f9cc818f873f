"""The shift of the key-coefficient distribution against the base model (the paper's figure 4, and its layers)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.analysis.infosteer.histogram import KeyHistogram, Of, region_counts
from steerline.analysis.infosteer.history import Floats
from steerline.errors import EvaluationError

REGIONS = ("low", "medium", "high")


def region_shares(base: KeyHistogram, runs: Mapping[str, KeyHistogram], *, of: Of = "magnitude") -> dict[str, Floats]:
    """Share of each run's keys in the base model's regions, by layer [L, 3]; the base itself is 1/4, 1/2, 1/4."""
    shares = {}
    for label, run in runs.items():
        counts = region_counts(base, run, of=of)
        shares[label] = counts / counts.sum(axis=1, keepdims=True)
    return shares


def distribution_figure(
    base: KeyHistogram,
    runs: Mapping[str, KeyHistogram],
    *,
    of: Of = "magnitude",
    heading: str = "Shift of the FFN keys against the base model",
) -> Figure:
    """Above, each run's share of keys in the base model's low, medium and high region over all layers, with the base as
    a line. Below, the change of each share layer by layer, in percentage points.

    Raises:
        EvaluationError: there is no run, or its layers are not the base's.
    """
    if not runs:
        raise EvaluationError("there is no run to draw", fix="pass at least one run's key histogram")
    shares = region_shares(base, runs, of=of)
    reference = np.array([0.25, 0.5, 0.25])
    figure = style.new_figure(9.5, 6.6)
    kind = "magnitude" if of == "magnitude" else "signed value"
    style.heading(
        figure, heading, f"Regions are cut at each layer's 25th and 75th percentile of the base model, by {kind}."
    )
    panels = figure.subplots(2, 3, sharex="row")
    reach = 0.1
    for column, region in enumerate(REGIONS):
        here = {label: share[:, column] for label, share in shares.items()}
        reach = max(reach, 1.3 * _bars(panels[0, column], here, float(reference[column]), region))
        _by_layer(panels[1, column], base.layers, here, float(reference[column]))
    for axes, centre in zip(panels[0], 100 * reference, strict=True):
        axes.set_ylim(centre - reach, centre + reach)
    _share_limits(panels[1])
    panels[0, 0].set_ylabel("share of keys (%)")
    panels[1, 0].set_ylabel("change from base (points)")
    return figure


def _bars(axes: Axes, shares: Mapping[str, Floats], reference: float, region: str) -> float:
    """Draws one region; returns the largest change in points."""
    palette = style.colours(shares)
    values = [100 * float(share.mean()) for share in shares.values()]
    # Bars grow from the base's share: from zero, changes of a point would not be seen.
    changes = [value - 100 * reference for value in values]
    bars = axes.bar(
        list(shares), changes, bottom=100 * reference, color=[palette[label] for label in shares], width=0.62
    )
    axes.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=9, padding=2, color=style.INK)
    axes.axhline(100 * reference, color=style.REFERENCE, linewidth=1.6, linestyle="--")
    axes.text(1.0, 100 * reference, "base", transform=axes.get_yaxis_transform(), fontsize=8, color=style.MUTED,
              ha="right", va="bottom")  # fmt: skip
    axes.set_xlim(-0.6, len(values) - 0.4)
    style.title(axes, f"{region} keys")
    style.tidy(axes)
    return max(map(abs, changes))


def _by_layer(axes: Axes, layers: tuple[int, ...], shares: Mapping[str, Floats], reference: float) -> None:
    palette, shapes = style.colours(shares), style.markers(shares)
    axes.axhline(0, color=style.REFERENCE, linewidth=1.6, linestyle="--")
    for label, share in shares.items():
        axes.plot(
            layers, 100 * (share - reference), color=palette[label], marker=shapes[label], markersize=3.5, linewidth=1.2
        )
    axes.set_xlabel("layer")
    style.tidy(axes)


def _share_limits(panels: np.ndarray) -> None:
    low = min(axes.get_ylim()[0] for axes in panels)
    high = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, high)
