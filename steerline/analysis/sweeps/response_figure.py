"""How a metric responds to each axis of a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.analysis.sweeps.axis import Placed, shown
from steerline.errors import EvaluationError
from steerline.evaluation.statistics import Interval

MOST_NAMED = 7
"""Lines that can be told apart; of more, none is named."""
_DASHES = ("--", ":", "-.", (0, (6, 1.5)))


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
    figure = style.new_figure(max(5.2, 4.2 * len(axes)), 4.6)
    style.heading(figure, f"Response of {metric}", note)
    for number, (panel, axis) in enumerate(
        zip(figure.subplots(1, len(axes), squeeze=False, sharey=True)[0], axes, strict=True)
    ):
        _references(panel, references, named=number == 0)
        _panel(panel, responses, axis)
        panel.set_xlabel(axis)
    figure.axes[0].set_ylabel(metric)
    return figure


def _references(panel: Axes, references: Mapping[str, Interval], *, named: bool) -> None:
    for (label, reference), dashes in zip(references.items(), cycle(_DASHES)):
        panel.axhspan(reference.low, reference.high, color=style.REFERENCE, alpha=0.12, linewidth=0)
        panel.axhline(
            reference.mean, color=style.MUTED, linewidth=1.3, linestyle=dashes, label=label if named else None
        )


def _panel(panel: Axes, responses: Sequence[Response], axis: str) -> None:
    with_axis = [response for response in responses if axis in response.values]
    placed = Placed.of([response.values[axis] for response in with_axis])
    lines: dict[str, list[tuple[float, Interval]]] = {}
    for response, position in zip(with_axis, placed.positions, strict=True):
        others = " ".join(f"{name}={shown(value)}" for name, value in response.values.items() if name != axis)
        lines.setdefault(others, []).append((position, response.outcome))
    # A search draws other values each time, so its points lie on no lines.
    scattered = len(lines) > len(with_axis) / 2
    if scattered:
        lines = {"": [point for line in lines.values() for point in line]}
    palette, shapes = style.colours(lines), style.markers(lines)
    for label, line in lines.items():
        line.sort(key=lambda pair: pair[0])
        means = [outcome.mean for _, outcome in line]
        arms = [[o.mean - o.low for _, o in line], [o.high - o.mean for _, o in line]]
        positions = [position for position, _ in line]
        panel.errorbar(
            _apart(positions) if scattered and placed.ticks else positions, means, yerr=arms, color=palette[label],
            marker=shapes[label], markersize=4, linewidth=0 if scattered else 1.4, capsize=2.5, elinewidth=1,
            label=label if label and len(lines) <= MOST_NAMED else None,
        )  # fmt: skip
    if placed.ticks:
        panel.set_xticks(range(len(placed.ticks)), placed.ticks)
        panel.set_xlim(-0.5, len(placed.ticks) - 0.5)
    if placed.is_log:
        panel.set_xscale("log")
    style.tidy(panel)
    if panel.get_legend_handles_labels()[1]:
        # Above the panel, where no point can be.
        panel.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)


def _apart(positions: Sequence[float]) -> list[float]:
    """Points of one category side by side, so that none hides another."""
    counts, seen = Counter(positions), Counter[float]()
    moved = []
    for position in positions:
        seen[position] += 1
        moved.append(position + 0.6 * (seen[position] / (counts[position] + 1) - 0.5))
    return moved
