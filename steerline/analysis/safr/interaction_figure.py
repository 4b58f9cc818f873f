"""Interaction map: which tokens share directions, beside which attend to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.analysis.safr.measures import Floats
from steerline.analysis.safr.token_axis import MAX_TOKENS, label_tokens, shown_note
from steerline.errors import EvaluationError

# Small values are most of the map; a square root lets them be seen. The colour bar shows the true values.
GAMMA = 0.5


def interaction_figure(
    tokens: Sequence[str],
    maps: Mapping[str, Mapping[str, Floats]],
    *,
    heading: str = "Interaction map of a sentence",
) -> Figure:
    """Heat maps over pairs of tokens: a column for each run, a row for each quantity, one colour scale for each row.

    A pair of a token with itself is blank.

    Args:
        tokens: the sentence's tokens [T].
        maps: quantity (say, "squared interference, FFN keys") -> run -> values in 0..1 [T, T], rows are queries.
        heading: the figure's title.

    Raises:
        EvaluationError: there is nothing to draw, quantities have different runs, or a map does not fit the tokens.
    """
    if not tokens or not maps or not all(maps.values()):
        raise EvaluationError("there is no map to draw", fix="pass tokens and at least one run's maps")
    runs = list(next(iter(maps.values())))
    for quantity, by_run in maps.items():
        if list(by_run) != runs:
            raise EvaluationError("the maps have different runs", where=quantity, got=list(by_run), expected=runs)
        for run, values in by_run.items():
            if values.shape != (len(tokens), len(tokens)):
                raise EvaluationError(
                    "a map does not fit the tokens", where=f"{quantity}, {run}", got=values.shape, expected=len(tokens)
                )
    shown = list(tokens[:MAX_TOKENS])
    side = max(2.6, 0.9 + 0.16 * len(shown))
    figure = style.new_figure(1.9 + side * len(runs), 1.6 + side * len(maps))
    note = "Rows: the token that attends. Colours grow with the square root of the value."
    style.heading(figure, heading, note + shown_note(len(tokens)))
    panels = figure.subplots(len(maps), len(runs), squeeze=False, sharex=True, sharey=True)
    for line, (quantity, by_run) in zip(panels, maps.items(), strict=True):
        _row(figure, line, quantity, by_run, len(shown))
    for axes, run in zip(panels[0], runs, strict=True):
        style.title(axes, run)
    for axes in panels[-1]:
        label_tokens(axes, shown, size=7.5)
    for axes in panels[:, 0]:
        label_tokens(axes, shown, which="y", size=7.5)
    return figure


def _row(figure: Figure, line: Sequence[Axes], quantity: str, by_run: Mapping[str, Floats], size: int) -> None:
    apart = ~np.eye(size, dtype=bool)
    cut = {run: np.where(apart, values[:size, :size], np.nan) for run, values in by_run.items()}
    top = max((float(values[apart].max()) for values in cut.values()), default=0.0) if size > 1 else 0.0
    scale = PowerNorm(GAMMA, 0, top or 1.0)
    for axes, values in zip(line, cut.values(), strict=True):
        axes.imshow(values, cmap=style.SEQUENTIAL, norm=scale, aspect="equal", interpolation="nearest")
        style.tidy(axes, grid="none")
        axes.tick_params(length=2)
    bar = figure.colorbar(ScalarMappable(scale, style.SEQUENTIAL), ax=list(line), pad=0.01, aspect=22, shrink=0.85)
    bar.set_label(quantity, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
