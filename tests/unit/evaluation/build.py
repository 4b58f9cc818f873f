"""Evaluation results made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from steerline.evaluation.results import EvaluationResult, ItemResult, TaskResult


def task(
    name: str,
    correct: Sequence[int],
    *,
    group: str = "id",
    digest: str = "d0",
    indices: Sequence[int] | None = None,
    num_items: int | None = None,
    prefix: str = "",
    method: str = "likelihood",
) -> TaskResult:
    """A task whose items are right where `correct` is 1."""
    places = range(len(correct)) if indices is None else indices
    items = tuple(
        ItemResult(i, f"{prefix}{name}-{i}", "true" if c else "false", "true", bool(c), (-0.5, -1.5))
        for i, c in zip(places, correct, strict=True)
    )
    return TaskResult(name, group, method, "none", digest, len(correct) if num_items is None else num_items, 0.5, items)


def result(*tasks: TaskResult) -> EvaluationResult:
    """An evaluation of those tasks."""
    return EvaluationResult(tasks, "as_trained", 500, 0.95)
