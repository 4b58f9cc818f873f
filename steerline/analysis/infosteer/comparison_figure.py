"""Accuracies of several runs with their intervals, and the paired difference of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steerline.analysis.infosteer import style
from steerline.errors import EvaluationError
from steerline.evaluation.compare import Comparison, p_text
from steerline.evaluation.results import EvaluationResult
from steerline.evaluation.statistics import Interval


def comparison_figure(
    results: Mapping[str, EvaluationResult],
    comparison: Comparison | None = None,
    *,
    heading: str = "Accuracy by task",
) -> Figure:
    """Bars of accuracy for each task, then each group's macro mean, with bootstrap intervals and chance levels.

    With a comparison of two runs, the right panel shows their paired differences with intervals and p-values.

    Raises:
        EvaluationError: there is no result, or the results have different tasks.
    """
    if not results:
        raise EvaluationError("there is no result to draw", fix="pass at least one evaluation")
    first = next(iter(results.values()))
    tasks = [task.name for task in first.tasks]
    if any({task.name for task in result.tasks} != set(tasks) for result in results.values()):
        raise EvaluationError("the results have different tasks", fix="draw runs that were evaluated alike")
    rows = [*tasks, *first.groups]
    sizes = [f"n = {len(first.task(t).items)}" for t in tasks] + ["macro mean" for _ in first.groups]
    figure = style.new_figure(10.5 if comparison else 7.5, 1.6 + 0.19 * len(rows) * (len(results) + 1))
    note = f"Lines: {first.confidence:.0%} bootstrap intervals over items. Dotted: chance."
    style.heading(figure, heading, note)
    places = _places(len(tasks), len(first.groups))
    if comparison:
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1), sharey=True)
        _differences(right, comparison, rows, places)
    else:
        left = figure.subplots()
    _accuracies(left, results, tasks, rows, places)
    left.set_yticks(places, [f"{name}\n{size}" for name, size in zip(rows, sizes, strict=True)])
    left.set_ylim(places[-1] + 0.6, -0.6)
    left.tick_params(axis="y", length=0)
    _separate(figure.axes, len(tasks), places)
    return figure


def _places(num_tasks: int, num_groups: int) -> list[float]:
    # A gap parts the tasks from the group means.
    return [float(i) for i in range(num_tasks)] + [num_tasks + 0.35 + i for i in range(num_groups)]


def _separate(panels: Sequence[Axes], num_tasks: int, places: Sequence[float]) -> None:
    for axes in panels:
        axes.axhline((places[num_tasks - 1] + places[num_tasks]) / 2, color=style.GRID, linewidth=1)


def _accuracies(
    axes: Axes,
    results: Mapping[str, EvaluationResult],
    tasks: Sequence[str],
    rows: Sequence[str],
    places: Sequence[float],
) -> None:
    palette = style.colours(results)
    height = 0.8 / len(results)
    drawn: list[Interval] = []
    for i, (label, result) in enumerate(results.items()):
        intervals = [result.accuracy(result.task(name)) for name in tasks]
        intervals += [result.group_accuracy(name) for name in rows[len(tasks) :]]
        drawn += intervals
        means = np.array([100 * interval.mean for interval in intervals])
        y = np.array(places) + (i - (len(results) - 1) / 2) * height
        axes.barh(y, means, height * 0.88, color=palette[label], label=label)
        axes.errorbar(means, y, xerr=_arms(intervals), fmt="none", ecolor=style.INK, elinewidth=1, capsize=2)
        for interval, place in zip(intervals, y, strict=True):
            axes.text(100 * interval.high + 1, place, f"{100 * interval.mean:.1f}", va="center", fontsize=8)
    first = next(iter(results.values()))
    for name, place in zip(tasks, places, strict=False):
        chance = first.task(name).chance
        if chance is not None:
            axes.vlines(100 * chance, place - 0.46, place + 0.46, color=style.INK, linewidth=1.2, linestyle=":")
    axes.set_xlim(0, min(108, 8 + 100 * max(interval.high for interval in drawn)))
    axes.set_xlabel("accuracy (%)")
    style.tidy(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.legend(frameon=False, fontsize=9, ncols=len(results), loc="lower left", bbox_to_anchor=(0, 1))


def _arms(intervals: Sequence[Interval]) -> list[list[float]]:
    return [
        [100 * (interval.mean - interval.low) for interval in intervals],
        [100 * (interval.high - interval.mean) for interval in intervals],
    ]


def _differences(axes: Axes, comparison: Comparison, rows: Sequence[str], places: Sequence[float]) -> None:
    by_name = {row.name: row for row in comparison.rows}
    axes.axvline(0, color=style.REFERENCE, linewidth=1.4)
    reach = 1.0
    for name, place in zip(rows, places, strict=True):
        row = by_name[name]
        interval = row.test.difference
        colour = style.colours([comparison.label_a, comparison.label_b])[comparison.label_b]
        axes.errorbar(
            [100 * interval.mean], [place], xerr=_arms([interval]), fmt="o" if row.kind == "task" else "D",
            color=colour, ecolor=style.INK, elinewidth=1.2, capsize=3, markersize=5.5,
        )  # fmt: skip
        label = f"p = {p_text(row.test.p_value)}".replace("= <", "< ")
        axes.text(1.02, place, label, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=style.MUTED)
        reach = max(reach, abs(100 * interval.low), abs(100 * interval.high))
    axes.set_xlim(-1.1 * reach, 1.1 * reach)
    axes.set_xlabel(f"{comparison.label_b} minus {comparison.label_a} (points)")
    style.title(axes, "Paired difference on the same items")
    style.tidy(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
