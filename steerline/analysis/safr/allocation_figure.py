"""Neuron allocation: how much of its own direction each token of a sentence has to itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.analysis.safr.measures import Floats
from steerline.analysis.safr.token_axis import MAX_TOKENS, label_tokens, shown_note
from steerline.errors import EvaluationError


def allocation_figure(
    tokens: Sequence[str],
    places: Mapping[str, Mapping[str, Floats]],
    *,
    heading: str = "Neuron allocation over a sentence",
) -> Figure:
    """Bars of token capacity, runs side by side, a panel for each place in the model.

    Args:
        tokens: the sentence's tokens [T].
        places: panel title (say, "FFN keys, layer 0") -> run -> capacity of each token in 0..1 [T].
        heading: the figure's title.

    Raises:
        EvaluationError: there is nothing to draw, or capacities and tokens differ in number.
    """
    if not tokens or not places or not all(places.values()):
        raise EvaluationError("there is no capacity to draw", fix="pass tokens and at least one run's capacities")
    runs = list(dict.fromkeys(run for capacities in places.values() for run in capacities))
    for place, capacities in places.items():
        for run, values in capacities.items():
            if len(values) != len(tokens):
                raise EvaluationError(
                    "capacities do not fit the tokens", where=f"{place}, {run}", got=len(values), expected=len(tokens)
                )
    shown = list(tokens[:MAX_TOKENS])
    figure = style.new_figure(max(6.5, 2.2 + 0.34 * len(shown)), 1.7 + 1.9 * len(places))
    note = "Capacity: 1 where a token's vector is orthogonal to all others, 1/n where n tokens share a direction."
    style.heading(figure, heading, note + shown_note(len(tokens)))
    panels = figure.subplots(len(places), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (place, capacities) in zip(panels, places.items(), strict=True):
        _bars(axes, {run: values[:MAX_TOKENS] for run, values in capacities.items()}, runs)
        style.title(axes, place)
        axes.set_ylabel("capacity (0 to 1)")
        style.tidy(axes)
    panels[0].legend(frameon=False, fontsize=9, ncols=len(runs), loc="lower right", bbox_to_anchor=(1, 1))
    label_tokens(panels[-1], shown)
    panels[-1].set_xlim(-0.7, len(shown) - 0.3)
    return figure


def _bars(axes: Axes, capacities: Mapping[str, Floats], runs: Sequence[str]) -> None:
    palette = style.colours(runs)
    width = 0.8 / len(runs)
    for run, values in capacities.items():
        shift = (runs.index(run) - (len(runs) - 1) / 2) * width
        axes.bar(np.arange(len(values)) + shift, values, width * 0.92, color=palette[run], label=run)
    # The same scale everywhere would hide small capacities; 0 stays the foot of the bars.
    axes.set_ylim(0, min(1.05, 1.15 * max(float(values.max()) for values in capacities.values()) + 1e-3))
