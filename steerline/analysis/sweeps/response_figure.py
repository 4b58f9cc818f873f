"""How a metric responds to each axis of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.errors import EvaluationError
from steerline.evaluation.statistics import Interval


@dataclass(frozen=True)
class Response:
    """A point of a sweep: the values of its axes, and the metric's mean over seeds with its interval."""

    values: Mapping[str, object]
    outcome: Interval


def response_figure(
    responses: Sequence[Response], axes: Sequence[str], references: Mapping[str, Interval], *, metric: str, note: str
) -> Figure:
    """One panel for each axis: the metric over its values, one line for each setting of the other axes.

    Args:
        responses: the points.
        axes: the axes' names, as in `Response.values`.
        references: label to outcome of runs that are no points, drawn as level lines with their intervals as bands.
        metric: what is measured.
        note: a line under the figure: what the intervals are.

    Raises:
        EvaluationError: there is no point.
    """
    if not responses:
        raise EvaluationError("there is no point to draw", fix="let the sweep finish a trial")
    figure = style.new_figure(max(5.2, 4.2 * len(axes)), 4.2)
    style.heading(figure, f"Response of {metric}", note)
    for panel, axis in zip(figure.subplots(1, len(axes), squeeze=False, sharey=True)[0], axes, strict=True):
        _panel(panel, responses, axis, references)
        panel.set_xlabel(axis)
    figure.axes[0].set_ylabel(metric)
    return figure


def _panel(panel: Axes, responses: Sequence[Response], axis: str, references: Mapping[str, Interval]) -> None:
    for label, reference in references.items():
        panel.axhspan(reference.low, reference.high, color=style.REFERENCE, alpha=0.12, linewidth=0)
        panel.axhline(reference.mean, color=style.REFERENCE, linewidth=1.3, linestyle="--", label=label)
    with_axis = [response for response in responses if axis in response.values]
    positions, ticks = placed([response.values[axis] for response in with_axis])
    lines: dict[str, list[tuple[float, Interval]]] = {}
    for response, position in zip(with_axis, positions, strict=True):
        others = " ".join(f"{name}={shown(value)}" for name, value in response.values.items() if name != axis)
        lines.setdefault(others, []).append((position, response.outcome))
    # A search draws other values each time, so its points lie on no lines.
    scattered = len(lines) > len(with_axis) / 2
    palette = style.colours(["points"] if scattered else lines)
    for label, line in lines.items():
        line.sort(key=lambda pair: pair[0])
        means = [outcome.mean for _, outcome in line]
        arms = [[o.mean - o.low for _, o in line], [o.high - o.mean for _, o in line]]
        colour = palette["points" if scattered else label]
        name = None if scattered or not label else label
        panel.errorbar(
            [position for position, _ in line], means, yerr=arms, color=colour, marker="o", markersize=4,
            linewidth=0 if scattered else 1.4, capsize=2.5, elinewidth=1, label=name,
        )  # fmt: skip
    if ticks:
        panel.set_xticks(range(len(ticks)), ticks)
    style.tidy(panel)
    if panel.get_legend_handles_labels()[1] and len(lines) <= 8:
        panel.legend(frameon=False, fontsize=8)


def placed(values: Sequence[object]) -> tuple[list[float], list[str]]:
    """Positions of values on an axis: numbers where they are, anything else side by side with its labels."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return [float(str(value)) for value in values], []
    ticks = list(dict.fromkeys(shown(value) for value in values))
    return [float(ticks.index(shown(value))) for value in values], ticks


def shown(value: object) -> str:
    """A value for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
