"""What an evaluation found: per item, per task, and as one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from steerline.errors import EvaluationError
from steerline.evaluation.statistics import Interval, bootstrap_interval, macro_interval

FORMAT = "steerline-evaluation/1"


@dataclass(frozen=True)
class ItemResult:
    """One item. `index` is its place in the task; `scores` are the options' (normalised) log-likelihoods in nats."""

    index: int
    id: str
    prediction: str
    answer: str
    correct: bool
    scores: tuple[float, ...] = ()
    text: str | None = None


@dataclass(frozen=True)
class TaskResult:
    """One task, or one worker's share of it: `num_items` counts the whole task, `items` holds what was evaluated."""

    name: str
    group: str
    method: str
    normalise: str
    digest: str
    num_items: int
    chance: float | None
    items: tuple[ItemResult, ...]

    @property
    def correct(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """1.0 for each right item, else 0.0 [N]."""
        return np.array([item.correct for item in self.items], dtype=np.float64)

    @property
    def complete(self) -> bool:
        """Whether every item of the task is here, in order."""
        return [item.index for item in self.items] == list(range(self.num_items))


@dataclass(frozen=True)
class EvaluationResult:
    """All tasks of one evaluation of one model."""

    tasks: tuple[TaskResult, ...]
    steering: str
    num_bootstrap: int
    confidence: float

    @property
    def groups(self) -> tuple[str, ...]:
        """Group names in order of first appearance."""
        return tuple(dict.fromkeys(task.group for task in self.tasks))

    @property
    def num_items(self) -> int:
        """Items evaluated, over all tasks."""
        return sum(len(task.items) for task in self.tasks)

    def task(self, name: str) -> TaskResult:
        """The task of that name.

        Raises:
            EvaluationError: there is none.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise EvaluationError(
            "no such task in this evaluation", got=name, expected=", ".join(task.name for task in self.tasks)
        )

    def accuracy(self, task: TaskResult) -> Interval:
        """Accuracy of one task with its bootstrap interval."""
        return bootstrap_interval(task.correct, num_resamples=self.num_bootstrap, confidence=self.confidence)

    def group_accuracy(self, group: str) -> Interval:
        """Mean of the group's task accuracies with its stratified bootstrap interval."""
        # By name: the order of tasks must not change the draws.
        members = sorted((task for task in self.tasks if task.group == group), key=lambda task: task.name)
        strata = [task.correct for task in members]
        return macro_interval(strata, num_resamples=self.num_bootstrap, confidence=self.confidence)

    def to_json(self) -> str:
        """The result as JSON. Accuracies are written for readers; `from_json` computes them anew."""
        document = {
            "format": FORMAT,
            "accuracy": {task.name: asdict(self.accuracy(task)) for task in self.tasks},
            "group_accuracy": {group: asdict(self.group_accuracy(group)) for group in self.groups},
            **asdict(self),
        }
        return json.dumps(document, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str, *, where: str | None = None) -> EvaluationResult:
        """Read what `to_json` wrote.

        Raises:
            EvaluationError: the text is not an evaluation of this format.
        """
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}")
            return cls(
                tasks=tuple(_task(task) for task in document["tasks"]),
                steering=document["steering"],
                num_bootstrap=document["num_bootstrap"],
                confidence=document["confidence"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise EvaluationError(
                "this is not an evaluation result",
                where=where,
                got=f"{type(error).__name__}: {error}",
                expected=f"a file of format {FORMAT}, as a run's evaluation.json",
                fix="give the evaluation.json of a finished run",
            ) from error

    def save(self, path: Path) -> None:
        """Write evaluation.json."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> EvaluationResult:
        """Read evaluation.json.

        Raises:
            EvaluationError: the file is missing or not an evaluation.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise EvaluationError(
                "the evaluation cannot be read", where=str(path), got=str(error), fix="check the path"
            ) from error
        return cls.from_json(text, where=str(path))


def _task(document: dict[str, Any]) -> TaskResult:
    items = tuple(ItemResult(**{**item, "scores": tuple(item["scores"])}) for item in document["items"])
    return TaskResult(**{**document, "items": items})


def merge(results: Sequence[EvaluationResult]) -> EvaluationResult:
    """Join the shares of all workers into one complete result, items in their order.

    Raises:
        EvaluationError: the shares are of different evaluations, or an item is missing or doubled.
    """
    if not results:
        raise EvaluationError("there is nothing to merge", fix="pass every worker's result")
    first = results[0]
    heads = {tuple((t.name, t.group, t.method, t.normalise, t.digest, t.num_items) for t in r.tasks) for r in results}
    settings = {(r.steering, r.num_bootstrap, r.confidence) for r in results}
    if len(heads) > 1 or len(settings) > 1:
        raise EvaluationError(
            "these are shares of different evaluations",
            got=f"{len(heads)} different task lists, {len(settings)} different settings",
            expected="the same tasks, items and settings on every worker",
            fix="merge the workers of one evaluation only",
        )
    tasks = tuple(_merge_task([result.tasks[i] for result in results]) for i in range(len(first.tasks)))
    return EvaluationResult(tasks, first.steering, first.num_bootstrap, first.confidence)


def _merge_task(shares: list[TaskResult]) -> TaskResult:
    items = sorted((item for share in shares for item in share.items), key=lambda item: item.index)
    indices = [item.index for item in items]
    head = shares[0]
    missing = sorted(set(range(head.num_items)) - set(indices))
    doubled = sorted({a for a, b in pairwise(indices) if a == b})
    if missing or doubled:
        raise EvaluationError(
            "the workers' shares do not add up to the task",
            where=head.name,
            got=f"missing items {_shorten(missing)}; doubled items {_shorten(doubled)}",
            expected=f"each of {head.num_items} items once",
            fix="merge the result of every rank exactly once",
        )
    return TaskResult(
        head.name, head.group, head.method, head.normalise, head.digest, head.num_items, head.chance, tuple(items)
    )


def _shorten(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown}, ... ({len(numbers)} in all)" if len(numbers) > 10 else shown or "none"
