"""Residual scales over depth, one curve for each split, and what they did to accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from steerline.analysis.inforidge.residual_profiles import Effect, ResidualProfiles
from steerline.analysis.infosteer import style

_TITLES = {"block": "Whole block", "attention": "Attention", "ffn": "FFN"}


def profile_figure(
    profiles: ResidualProfiles, found: Sequence[Effect] = (), *, heading: str = "Residual scales by layer"
) -> Figure:
    """Upper row: each part's beta over layers, mean over seeds with a band of one standard deviation. Lower row: the
    last split minus the first with its Student interval. Beside them, or in place of the lower row where there is one
    split or one seed: accuracy before and after.

    Args:
        profiles: the fits.
        found: their effects; none leaves the accuracies out.
        heading: the figure's title.
    """
    two = len(profiles.splits) > 1 and len(profiles.seeds) > 1
    below = len(profiles.parts) * two + bool(found)
    columns = max(len(profiles.parts), below)
    figure = style.new_figure(max(5.0, 4.4 * columns), 3.6 + 3.0 * bool(below))
    seeds = f"{len(profiles.seeds)} seed{'s' * (len(profiles.seeds) > 1)}"
    style.heading(figure, heading, f"beta 1: the plain model. Bands: one standard deviation over {seeds}.")
    panels = figure.subplots(1 + bool(below), columns, squeeze=False)
    for axes in panels.ravel():
        axes.set_visible(False)
    for part, name in enumerate(profiles.parts):
        _profile(panels[0, part], profiles, part)
        style.title(panels[0, part], _TITLES[name])
        if two:
            _difference(panels[1, part], profiles, part)
    if found and two:
        _accuracies(figure.add_subplot(panels[0, -1].get_gridspec()[:, -1]), found)
    elif found:
        _accuracies(panels[1, 0], found)
    return figure


def _profile(axes: Axes, profiles: ResidualProfiles, part: int) -> None:
    axes.set_visible(True)
    palette, shapes = style.colours(profiles.splits), style.markers(profiles.splits)
    axes.axhline(1, color=style.REFERENCE, linewidth=1.0, linestyle="--")
    for split in profiles.splits:
        mean, spread = profiles.mean(split)[part], profiles.spread(split)[part]
        axes.fill_between(profiles.layers, mean - spread, mean + spread, color=palette[split], alpha=0.18, linewidth=0)
        axes.plot(
            profiles.layers,
            mean,
            color=palette[split],
            marker=shapes[split],
            markersize=4,
            linewidth=1.6,
            label=f"fitted on {split}",
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer")
    axes.set_ylabel("beta")
    axes.legend(frameon=False, fontsize=8.5)
    style.tidy(axes)


def _difference(axes: Axes, profiles: ResidualProfiles, part: int) -> None:
    axes.set_visible(True)
    spans = profiles.differences()[part]
    means = np.array([span.mean for span in spans])
    reach = np.array([[span.mean - span.low, span.high - span.mean] for span in spans]).T
    axes.axhline(0, color=style.REFERENCE, linewidth=1.0, linestyle="--")
    axes.errorbar(profiles.layers, means, reach, color=style.INK, marker="o", markersize=4, linewidth=1.2, capsize=2)
    style.title(axes, f"{profiles.splits[-1]} minus {profiles.splits[0]} (95 % t interval over seeds)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer")
    axes.set_ylabel("difference of beta")
    style.tidy(axes)


def _accuracies(axes: Axes, found: Sequence[Effect]) -> None:
    axes.set_visible(True)
    judged = list(dict.fromkeys(one.judged_on for one in found))
    fitted = list(dict.fromkeys(one.fitted_on for one in found))
    palette = {"before": style.REFERENCE, **style.colours(fitted)}
    width = 0.8 / (len(fitted) + 1)
    for group, split in enumerate(judged):
        here = {one.fitted_on: one for one in found if one.judged_on == split}
        bars = {"before": here[fitted[0]].before, **{name: one.after for name, one in here.items()}}
        for number, (name, span) in enumerate(bars.items()):
            label = None if group else ("before" if name == "before" else f"fitted on {name}")
            axes.bar(
                group + (number - len(fitted) / 2) * width,
                span.mean,
                width * 0.92,
                yerr=[[max(0.0, span.mean - span.low)], [max(0.0, span.high - span.mean)]],
                color=palette[name],
                capsize=2,
                label=label,
            )
    axes.set_xticks(range(len(judged)), [f"judged on {name}" for name in judged])
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.18)
    style.title(axes, "Held-out accuracy (intervals over items)")
    axes.legend(frameon=False, fontsize=8.5, ncols=len(fitted) + 1, loc="upper center")
    style.tidy(axes)
