"""Which tokens matter: the importances of many tokens as a histogram, and of one sentence as a strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.analysis.safr.measures import Floats
from steerline.analysis.safr.reading import ImportanceFrom
from steerline.analysis.safr.token_axis import MAX_TOKENS, label_tokens, shown_note
from steerline.errors import EvaluationError

BINS = 25
_AXIS: Mapping[ImportanceFrom, str] = {
    "vmask": "VMASK gate (probability of keeping)",
    "gradient_x_input": "|gradient x input| (nats)",
}


def importance_figure(
    values: Mapping[str, Floats],
    tokens: Sequence[str],
    strips: Mapping[str, Floats],
    *,
    importance_from: ImportanceFrom,
    heading: str = "Importance of tokens",
) -> Figure:
    """Above, the histogram of each run's importances; below, one sentence, a strip for each run.

    Args:
        values: run -> importances of many tokens [N].
        tokens: a sentence's tokens [T].
        strips: run -> importance of each of them [T].
        importance_from: what importance is; decides the axis: 0..1 for gates, from 0 for gradients.
        heading: the figure's title.

    Raises:
        EvaluationError: there is nothing to draw, or runs or lengths differ.
    """
    if not tokens or not values or any(not len(found) for found in values.values()):
        raise EvaluationError("there is no importance to draw", fix="pass at least one run's importances")
    if list(values) != list(strips) or any(len(strip) != len(tokens) for strip in strips.values()):
        raise EvaluationError(
            "strips do not fit runs and tokens",
            got={run: len(strip) for run, strip in strips.items()},
            expected=f"{len(tokens)} values for each of {', '.join(values)}",
        )
    shown = list(tokens[:MAX_TOKENS])
    figure = style.new_figure(max(6.5, 2.0 + 0.34 * len(shown)), 4.3 + 0.42 * len(strips))
    style.heading(figure, heading, "Below: one sentence." + shown_note(len(tokens)))
    above, below = figure.subplots(2, 1, height_ratios=(2.2, 0.35 + 0.42 * len(strips)))
    top = 1.0 if importance_from == "vmask" else max(float(found.max()) for found in values.values()) or 1.0
    _histogram(above, values, top, _AXIS[importance_from])
    _strips(figure, below, shown, {run: strip[:MAX_TOKENS] for run, strip in strips.items()}, top)
    return figure


def _histogram(axes: Axes, values: Mapping[str, Floats], top: float, label: str) -> None:
    palette = style.colours(values)
    edges = np.linspace(0, top, BINS + 1)
    for run, found in values.items():
        share = 100 * np.histogram(found, edges)[0] / len(found)
        axes.stairs(share, edges, color=palette[run], linewidth=1.8, label=f"{run} ({len(found)} tokens)")
        axes.stairs(share, edges, color=palette[run], fill=True, alpha=0.12)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, top)
    axes.set_xlabel(label)
    axes.set_ylabel("share of tokens (%)")
    style.tidy(axes)
    axes.legend(frameon=False, fontsize=9)


def _strips(figure: Figure, axes: Axes, tokens: Sequence[str], strips: Mapping[str, Floats], top: float) -> None:
    scale = Normalize(0, top)
    axes.imshow(np.stack(list(strips.values())), cmap=style.SEQUENTIAL, norm=scale, aspect="auto")
    axes.set_yticks(range(len(strips)), list(strips))
    label_tokens(axes, tokens)
    style.tidy(axes, grid="none")
    axes.set_yticks(np.arange(1, len(strips)) - 0.5, minor=True)
    axes.grid(which="minor", axis="y", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    bar = figure.colorbar(ScalarMappable(scale, style.SEQUENTIAL), ax=axes, pad=0.01, aspect=10)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
