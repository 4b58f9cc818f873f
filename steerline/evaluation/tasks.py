"""Run the tasks of an evaluation on one worker's share of the items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from steerline.config.evaluation import EvaluationSpec, TaskEvaluation
from steerline.data.examples import Example
from steerline.data.load import digest, load_examples
from steerline.errors import EvaluationError
from steerline.evaluation.classification import class_scores
from steerline.evaluation.generation import generate_texts
from steerline.evaluation.likelihood import score_options
from steerline.evaluation.model_facts import evaluating
from steerline.evaluation.protocol import judge, protocol_of
from steerline.evaluation.results import EvaluationResult, ItemResult, TaskResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Called with the task's name, how many of this worker's items of it are done, and how many it has.
OnProgress = Callable[[str, int, int], None]


def evaluate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    spec: EvaluationSpec,
    *,
    rank: int = 0,
    world_size: int = 1,
    max_length: int | None = None,
    on_progress: OnProgress | None = None,
) -> EvaluationResult:
    """Evaluate items `rank`, `rank + world_size`, ... of every task; `merge` joins the workers' results.

    Steering is the caller's: whatever is attached to the model acts, and `spec.steering` is only recorded. The model
    is in eval mode meanwhile and as it was afterwards. Texts to classify are cut to `max_length` tokens, as in training
    they were.

    Raises:
        EvaluationError: no task, a task named like a group, no items, or an item the model or the method cannot take.
        DataError: a task's data set cannot be read.
    """
    if not spec.tasks:
        raise EvaluationError("there is nothing to evaluate", where="evaluation.tasks", fix="list at least one task")
    if not 0 <= rank < world_size:
        raise EvaluationError("impossible rank", got=f"rank {rank} of {world_size}", expected=f"0 to {world_size - 1}")
    report = on_progress or _silent
    with evaluating(model):
        tasks = tuple(
            evaluate_task(
                model,
                tokenizer,
                task,
                load_examples(task.dataset),
                batch_tokens=spec.batch_tokens,
                rank=rank,
                world_size=world_size,
                max_length=max_length,
                on_progress=report,
            )
            for task in spec.tasks
        )
    return EvaluationResult(tasks, spec.steering, spec.num_bootstrap, spec.confidence)


def _silent(_task: str, _done: int, _total: int) -> None:
    """The progress of a caller who did not ask for it."""


def evaluate_task(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: TaskEvaluation,
    examples: Sequence[Example],
    *,
    batch_tokens: int = 4096,
    rank: int = 0,
    world_size: int = 1,
    max_length: int | None = None,
    on_progress: OnProgress = _silent,
) -> TaskResult:
    """Evaluate one worker's share of the given examples. The model's mode is the caller's.

    Raises:
        EvaluationError: see `evaluate`.
    """
    if not examples:
        raise EvaluationError(
            "the task has no items",
            where=task.name,
            got="an empty data set",
            fix="check the split, the file and `limit`",
        )
    indices = range(rank, len(examples), world_size)
    share = [examples[i] for i in indices]

    def report(done: int) -> None:
        on_progress(task.name, done, len(share))

    if task.method == "likelihood":
        scores = score_options(
            model, tokenizer, share, normalise=task.normalise, batch_tokens=batch_tokens, on_progress=report
        )
        items = _by_scores(share, indices, scores)
    elif task.method == "classify":
        scores = class_scores(
            model, tokenizer, share, max_length=max_length, batch_tokens=batch_tokens, on_progress=report
        )
        items = _by_scores(share, indices, scores)
    else:
        items = _by_generation(model, tokenizer, task, examples, indices, batch_tokens, report)
    return _result(task, examples, items)


def judged_by_scores(
    task: TaskEvaluation, examples: Sequence[Example], scores: Sequence[tuple[float, ...]]
) -> TaskResult:
    """A whole task's result from the scores of every example's options."""
    return _result(task, examples, _by_scores(examples, range(len(examples)), scores))


def _result(task: TaskEvaluation, examples: Sequence[Example], items: Sequence[ItemResult]) -> TaskResult:
    return TaskResult(
        name=task.name,
        group=task.group,
        method=task.method,
        normalise=task.normalise if task.method == "likelihood" else "none",
        digest=digest(examples),
        num_items=len(examples),
        chance=_chance(examples),
        items=tuple(items),
    )


def _chance(examples: Sequence[Example]) -> float | None:
    """Accuracy of guessing among the choices; None where an item has none."""
    if not all(example.choices for example in examples):
        return None
    return float(np.mean([1 / len(example.choices) for example in examples]))


def _by_scores(
    share: Sequence[Example], indices: Sequence[int], scores: Sequence[tuple[float, ...]]
) -> list[ItemResult]:
    items = []
    for index, example, options in zip(indices, share, scores, strict=True):
        assert example.label is not None
        best = int(np.argmax(options))  # ties go to the first option
        items.append(
            ItemResult(
                index, example.id, example.choices[best], example.choices[example.label], best == example.label, options
            )
        )
    return items


def _by_generation(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: TaskEvaluation,
    examples: Sequence[Example],
    indices: Sequence[int],
    batch_tokens: int,
    report: Callable[[int], None],
) -> list[ItemResult]:
    # The protocol is the whole task's, so that every worker reads answers the same way.
    protocol = protocol_of(task.dataset, examples)
    share = [examples[i] for i in indices]
    texts = generate_texts(
        model,
        tokenizer,
        share,
        max_new_tokens=task.max_new_tokens,
        stop_at_newline=protocol.stop_at_newline,
        batch_tokens=batch_tokens,
        on_progress=report,
    )
    items = []
    for index, example, text in zip(indices, share, texts, strict=True):
        verdict = judge(text, example, protocol.answer)
        items.append(
            ItemResult(index, example.id, verdict.prediction, verdict.answer, verdict.correct, (), text.strip())
        )
    return items
