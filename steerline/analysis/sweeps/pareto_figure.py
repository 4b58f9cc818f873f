"""What two metrics of a sweep cost each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.errors import EvaluationError


def pareto_figure(
    points: Sequence[tuple[str, float, float]],
    front: Sequence[str],
    references: Mapping[str, tuple[float, float]],
    *,
    metrics: tuple[str, str],
) -> Figure:
    """Every point by its two metrics; those of the front are joined and named.

    Args:
        points: label, first metric, second metric.
        front: labels of the points that no other beats in both.
        references: label to both metrics of runs that are no points.
        metrics: the metrics' names.

    Raises:
        EvaluationError: there is no point.
    """
    if not points:
        raise EvaluationError("there is no point to draw", fix="let the sweep finish a trial")
    figure = style.new_figure(6.4, 4.6)
    style.heading(figure, f"{metrics[0]} against {metrics[1]}", "Joined: points that no other beats in both.")
    panel = figure.subplots()
    colour = style.colours(["front"])["front"]
    panel.scatter([x for _, x, _ in points], [y for _, _, y in points], color=style.REFERENCE, s=22)
    best = sorted((x, y, label) for label, x, y in points if label in front)
    panel.plot([x for x, _, _ in best], [y for _, y, _ in best], color=colour, marker="o", linewidth=1.4)
    shapes = style.markers(["point", *references])
    for label, (x, y) in references.items():
        panel.scatter([x], [y], color=style.INK, marker=shapes[label], s=36, label=label)
    middle = sum(panel.get_xlim()) / 2
    for x, y, label in best:
        # Towards the middle, so that no label runs out of the panel.
        away, side = (-6, "right") if x > middle else (6, "left")
        panel.annotate(
            label, (x, y), xytext=(away, 5), textcoords="offset points", fontsize=8, color=style.INK, ha=side
        )
    panel.set_xlabel(metrics[0])
    panel.set_ylabel(metrics[1])
    style.tidy(panel)
    if references:
        panel.legend(frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    return figure
