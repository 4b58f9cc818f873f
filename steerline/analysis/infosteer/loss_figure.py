"""Losses of several runs over training, by term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.analysis.infosteer.history import Curve, Metrics
from steerline.errors import EvaluationError

# Metric, panel title, unit; a panel that no run has values for is left out.
Panel = tuple[str, str, str]
PANELS: tuple[Panel, ...] = (
    ("train/loss_ce", "Training cross-entropy", "nats per target token"),
    ("heldout/loss", "Held-out loss", "nats per target token"),
    ("train/entropy", "Key entropy, mean over layers", "nats per token"),
    ("train/loss", "Total training loss", "nats (with its side terms)"),
)
SPARSE = 30


def loss_figure(
    runs: Mapping[str, Metrics], *, heading: str = "Losses over training", panels: Sequence[Panel] = PANELS
) -> Figure:
    """A panel for each term, every run in it. Long noisy curves are drawn faintly with an average over neighbours on
    top.

    The total is shown only where it is something else than the cross-entropy.

    Raises:
        EvaluationError: no run has any of the terms.
    """
    curves = {
        label: {name: Curve.of(points) for name, points in metrics.items() if name in {panel[0] for panel in panels}}
        for label, metrics in runs.items()
    }
    shown = [panel for panel in panels if any(_worth_showing(run, panel[0]) for run in curves.values())]
    if not shown:
        raise EvaluationError(
            "there is no loss to draw",
            got=f"runs {', '.join(runs) or 'none'}",
            expected=f"at least one of the metrics {', '.join(panel[0] for panel in panels)}",
        )
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    figure = style.new_figure(4.8 * columns, 3.1 * lines + 0.6)
    style.heading(figure, heading, "Where a curve is noisy, the strong line is an average over neighbouring steps.")
    places = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, text, unit) in zip(places, shown, strict=False):
        for label, run in curves.items():
            if name in run and len(run[name]):
                _draw(axes, label, run[name], style.colours(curves)[label], style.markers(curves)[label])
        style.title(axes, text)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel(unit)
        style.tidy(axes)
    places[0].legend(frameon=False, fontsize=9)
    for axes in places[len(shown) :]:
        axes.set_visible(False)
    return figure


def _worth_showing(run: Mapping[str, Curve], name: str) -> bool:
    if name not in run or not len(run[name]):
        return False
    return (
        name != "train/loss"
        or "train/loss_ce" not in run
        or bool(run[name].values.tolist() != run["train/loss_ce"].values.tolist())
    )


def _draw(axes: Axes, label: str, curve: Curve, colour: str, marker: str) -> None:
    if len(curve) <= SPARSE:
        axes.plot(curve.steps, curve.values, color=colour, marker=marker, markersize=4, linewidth=1.5, label=label)
        return
    axes.plot(curve.steps, curve.values, color=colour, linewidth=0.7, alpha=0.35)
    smooth = curve.smoothed(len(curve) / 40)
    axes.plot(smooth.steps, smooth.values, color=colour, linewidth=1.8, label=label)
