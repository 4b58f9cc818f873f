"""An evaluation as metrics for a tracker and as Markdown for a reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steerline.evaluation.compare import Comparison, accuracy_text, difference_text, p_text
from steerline.evaluation.results import EvaluationResult
from steerline.evaluation.statistics import Interval


def metrics(result: EvaluationResult, *, prefix: str = "eval") -> dict[str, float]:
    """`eval/<task>/accuracy`, its interval's ends and the number of items; the same for each group."""
    values: dict[str, float] = {}
    for task in result.tasks:
        values |= _accuracy(f"{prefix}/{task.name}", result.accuracy(task), len(task.items))
    for group in result.groups:
        num_items = sum(len(task.items) for task in result.tasks if task.group == group)
        values |= _accuracy(f"{prefix}/{group}", result.group_accuracy(group), num_items)
    return values


def _accuracy(name: str, interval: Interval, num_items: int) -> dict[str, float]:
    return {
        f"{name}/accuracy": interval.mean,
        f"{name}/accuracy_low": interval.low,
        f"{name}/accuracy_high": interval.high,
        f"{name}/num_items": float(num_items),
    }


def markdown(result: EvaluationResult) -> str:
    """A table of tasks and group means."""
    rows = [
        (
            task.name,
            task.group,
            _method(task.method, task.normalise),
            str(len(task.items)),
            accuracy_text(result.accuracy(task)),
            "" if task.chance is None else f"{task.chance * 100:.1f}",
        )
        for task in result.tasks
    ]
    for group in result.groups:
        members = [task for task in result.tasks if task.group == group]
        num_items = str(sum(len(task.items) for task in members))
        rows.append((f"**{group} mean**", group, "macro", num_items, accuracy_text(result.group_accuracy(group)), ""))
    interval = f"accuracy % [{result.confidence:.0%} interval]"
    table = _table(("task", "group", "method", "items", interval, "chance %"), rows, num_left=3)
    return f"{table}\n\nSteering while evaluating: `{result.steering}`. {result.num_bootstrap} bootstrap resamples.\n"


def _method(method: str, normalise: str) -> str:
    return method if normalise == "none" else f"{method} / {normalise}"


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as a table of tasks and group means."""
    rows = [
        (
            row.name if row.kind == "task" else f"**{row.name} mean**",
            str(row.test.num_items),
            accuracy_text(row.a),
            accuracy_text(row.b),
            difference_text(row.test.difference),
            p_text(row.test.p_value),
            "" if row.p_holm is None else p_text(row.p_holm),
        )
        for row in comparison.rows
    ]
    header = ("task", "items", comparison.label_a, comparison.label_b, "difference (points)", "p", "p (Holm)")
    return (
        f"{_table(header, rows, num_left=1)}\n\n"
        f"In brackets: {comparison.confidence:.0%} bootstrap intervals over items. "
        "p: exact McNemar for a task, stratified permutation for a group; Holm over tasks.\n"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, num_left: int) -> str:
    rule = ["---" if i < num_left else "---:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in row) + " |" for row in (header, rule, *rows))


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")
