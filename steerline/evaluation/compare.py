"""Two evaluations on the same items, side by side."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from rich import box
from rich.table import Table
from rich.text import Text

from steerline.errors import EvaluationError
from steerline.evaluation.results import EvaluationResult, TaskResult
from steerline.evaluation.statistics import Interval, PairedTest, holm, paired_macro_test, paired_test


@dataclass(frozen=True)
class ComparisonRow:
    """One task, or the macro mean of one group. Differences are second minus first.

    `p_value` is McNemar's exact test for a task, a stratified permutation test for a group of several tasks. `p_holm`
    is corrected over all tasks; a group, being a summary and not one more test, has none.
    """

    name: str
    kind: Literal["task", "group"]
    group: str
    a: Interval
    b: Interval
    test: PairedTest
    p_holm: float | None


@dataclass(frozen=True)
class Comparison:
    """All tasks both evaluations have, then one row for each group."""

    label_a: str
    label_b: str
    confidence: float
    rows: tuple[ComparisonRow, ...]

    @property
    def num_items(self) -> int:
        """Items compared, over all tasks."""
        return sum(row.test.num_items for row in self.rows if row.kind == "task")

    def to_json(self) -> str:
        """The comparison as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)


def compare(a: EvaluationResult, b: EvaluationResult, *, label_a: str = "A", label_b: str = "B") -> Comparison:
    """Compare two complete evaluations item by item.

    Raises:
        EvaluationError: the tasks, their items or the way they were scored differ, or a result is one worker's share.
    """
    _same_tasks(a, b, label_a, label_b)
    pairs = [(task, b.task(task.name)) for task in a.tasks]
    for first, second in pairs:
        _same_items(first, second, label_a, label_b)
    draws, confidence = a.num_bootstrap, a.confidence
    tests = [
        paired_test(first.correct, second.correct, num_resamples=draws, confidence=confidence)
        for first, second in pairs
    ]
    corrected = holm([test.p_value for test in tests])
    rows = [
        ComparisonRow(first.name, "task", first.group, a.accuracy(first), b.accuracy(second), test, p_holm)
        for (first, second), test, p_holm in zip(pairs, tests, corrected, strict=True)
    ]
    for group in a.groups:
        # By name, as the groups' own intervals are drawn.
        members = sorted((pair for pair in pairs if pair[0].group == group), key=lambda pair: pair[0].name)
        strata = [(first.correct, second.correct) for first, second in members]
        test = paired_macro_test(strata, num_resamples=draws, confidence=confidence)
        rows.append(ComparisonRow(group, "group", group, a.group_accuracy(group), b.group_accuracy(group), test, None))
    return Comparison(label_a, label_b, a.confidence, tuple(rows))


def _same_tasks(a: EvaluationResult, b: EvaluationResult, label_a: str, label_b: str) -> None:
    names_a, names_b = [t.name for t in a.tasks], [t.name for t in b.tasks]
    if sorted(names_a) != sorted(names_b):
        only_a = ", ".join(sorted(set(names_a) - set(names_b))) or "none"
        only_b = ", ".join(sorted(set(names_b) - set(names_a))) or "none"
        raise EvaluationError(
            "the two evaluations have different tasks",
            got=f"only in {label_a}: {only_a}; only in {label_b}: {only_b}",
            expected="the same tasks",
            fix="evaluate both with the same `evaluation.tasks`",
        )


def _same_items(a: TaskResult, b: TaskResult, label_a: str, label_b: str) -> None:
    for task, label in ((a, label_a), (b, label_b)):
        if not task.complete:
            raise EvaluationError(
                "this evaluation is one worker's share, not a whole result",
                where=f"{label}, task {task.name}",
                got=f"{len(task.items)} of {task.num_items} items",
                fix="merge the workers' results first",
            )
    way_a, way_b = (a.method, a.normalise, a.group), (b.method, b.normalise, b.group)
    if way_a != way_b:
        raise EvaluationError(
            "the two evaluations scored this task in different ways",
            where=f"task {a.name}",
            got=f"{label_a}: {' '.join(way_a)}; {label_b}: {' '.join(way_b)}",
            expected="the same method, normalisation and group",
            fix="evaluate both with the same `evaluation.tasks`",
        )
    ids_a, ids_b = [item.id for item in a.items], [item.id for item in b.items]
    if ids_a != ids_b or a.digest != b.digest:
        raise EvaluationError(
            "a paired comparison needs the same items on both sides",
            where=f"task {a.name}",
            got=(
                f"only in {label_a}: {_some(set(ids_a) - set(ids_b))}; only in {label_b}: "
                f"{_some(set(ids_b) - set(ids_a))}; digests {a.digest[:12]} and {b.digest[:12]}"
            ),
            expected="the same ids in the same order, and the same digest",
            fix="evaluate both with the same data set, `limit` and `seed`",
        )


def _some(ids: set[str]) -> str:
    shown = sorted(ids)[:5]
    return (", ".join(shown) + (f", ... ({len(ids)} in all)" if len(ids) > 5 else "")) or "none"


def comparison_table(comparison: Comparison, *, title: str | None = None) -> Table:
    """The comparison for a terminal. A difference whose interval leaves out zero is marked by colour."""
    percent = f"{comparison.confidence:.0%}"
    caption = (
        f"Accuracy and difference in per cent, [{percent} intervals over items]. p: paired tests; Holm over tasks."
    )
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", no_wrap=True)
    for header in ("items", comparison.label_a, comparison.label_b, "difference", "p", "Holm"):
        table.add_column(header, justify="right", overflow="fold")
    previous = "task"
    for row in comparison.rows:
        if row.kind != previous:
            table.add_section()
        previous = row.kind
        table.add_row(
            row.name if row.kind == "task" else f"{row.name} mean",
            str(row.test.num_items),
            accuracy_text(row.a),
            accuracy_text(row.b),
            Text(difference_text(row.test.difference), style=_style(row.test.difference)),
            p_text(row.test.p_value),
            "" if row.p_holm is None else p_text(row.p_holm),
        )
    return table


def _style(difference: Interval) -> str:
    if difference.low > 0:
        return "green"
    return "red" if difference.high < 0 else ""


def accuracy_text(interval: Interval) -> str:
    """An accuracy in per cent with its interval: `61.5 [54.8, 68.0]`."""
    return f"{interval.mean * 100:.1f} [{interval.low * 100:.1f}, {interval.high * 100:.1f}]"


def difference_text(interval: Interval) -> str:
    """A difference in percentage points with its interval: `+2.5 [-1.0, +6.0]`."""
    mean, low, high = (_signed(value) for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def _signed(value: float) -> str:
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(value * 100, 1) + 0.0:+.1f}"


def p_text(p: float) -> str:
    """A p-value to three decimals."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
