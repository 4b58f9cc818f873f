"""One loaded model, judged under many steerings at once.

Points that differ in strengths or residual scales alone share forward passes: each row of a batch carries those of its
point, and the layers below the first steered one run once for all of them. A point's answers are those that it gives
alone, up to the rounding of larger matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from steerline.config.evaluation import EvaluationSpec, TaskEvaluation
from steerline.config.steering import SteeringSpec
from steerline.data.examples import Example
from steerline.data.load import load_examples
from steerline.errors import EvaluationError
from steerline.evaluation.encoding import batches
from steerline.evaluation.fan_out import fanned_out
from steerline.evaluation.likelihood import MAX_READS, Questions, Tally, reading
from steerline.evaluation.model_facts import evaluating
from steerline.evaluation.results import EvaluationResult, TaskResult
from steerline.evaluation.steered_groups import Group, acting, grouped
from steerline.evaluation.tasks import OnProgress, evaluate_task, judged_by_scores
from steerline.models.anatomy import Anatomy
from steerline.models.anatomy import anatomy as find_anatomy
from steerline.steering.attach import attach

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def evaluate_many(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    spec: EvaluationSpec,
    points: Sequence[SteeringSpec],
    *,
    anatomy: Anatomy | None = None,
    seed: int = 0,
    max_length: int | None = None,
    on_progress: OnProgress = lambda _task, _done, _total: None,
) -> list[EvaluationResult]:
    """Evaluate every point on every task; results in the order of `points`, each as `evaluate` gives it.

    Points that come to the same (strength 0, whatever else they say; a boost that does not act, by `spec.steering`)
    are computed once. Tasks that generate or classify take one pass for each point.

    Args:
        model: with nothing attached; it is in eval mode meanwhile and as it was afterwards.
        tokenizer: the model's.
        spec: tasks, `batch_tokens` (rows of all strengths together), and whether a boost acts.
        points: the steerings.
        anatomy: the model's sites, if they were named by hand.
        seed: placebos draw from it.
        max_length: texts to classify are cut to this many tokens.
        on_progress: told task, items done and items to do, an item counting once for each distinct point.

    Raises:
        EvaluationError: there is no task, or as `evaluate_task`.
        SteeringError: a point names layers that the model does not have.
        DataError: a task's data set cannot be read.
    """
    if not spec.tasks:
        raise EvaluationError("there is nothing to evaluate", where="evaluation.tasks", fix="list at least one task")
    sites = find_anatomy(model) if anatomy is None else anatomy
    effective = [acting(point, spec.steering) for point in points]
    distinct = list(dict.fromkeys(effective))
    with evaluating(model):
        by_task = [
            evaluate_task_many(
                model,
                tokenizer,
                task,
                load_examples(task.dataset),
                distinct,
                anatomy=sites,
                batch_tokens=spec.batch_tokens,
                seed=seed,
                max_length=max_length,
                on_progress=on_progress,
            )
            for task in spec.tasks
        ]
    whole = {
        point: EvaluationResult(results, spec.steering, spec.num_bootstrap, spec.confidence)
        for point, results in zip(distinct, zip(*by_task, strict=True), strict=True)
    }
    return [whole[point] for point in effective]


def evaluate_task_many(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: TaskEvaluation,
    examples: Sequence[Example],
    points: Sequence[SteeringSpec],
    *,
    anatomy: Anatomy,
    batch_tokens: int = 4096,
    seed: int = 0,
    max_length: int | None = None,
    on_progress: OnProgress = lambda _task, _done, _total: None,
) -> list[TaskResult]:
    """Evaluate the given examples under every point, as `acting` leaves them. The model's mode is the caller's.

    Arguments and errors are those of `evaluate_many`.
    """
    passes = _Passes(model, tokenizer, anatomy, task, batch_tokens, seed, max_length, on_progress)
    return passes.run(examples, points)


class _Passes:
    """One task under several points."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        sites: Anatomy,
        task: TaskEvaluation,
        batch_tokens: int,
        seed: int,
        max_length: int | None,
        on_progress: OnProgress,
    ) -> None:
        self._model, self._tokenizer, self._sites = model, tokenizer, sites
        self._task, self._batch_tokens, self._seed = task, batch_tokens, seed
        self._max_length, self._on_progress = max_length, on_progress

    def run(self, examples: Sequence[Example], points: Sequence[SteeringSpec]) -> list[TaskResult]:
        """The task's result under each point."""
        total = len(examples) * len(points)
        if self._task.method != "likelihood" or not examples:
            return [self._alone(examples, point, number * len(examples), total) for number, point in enumerate(points)]
        questions = Questions.of(self._model, self._tokenizer, examples)
        results: dict[int, TaskResult] = {}
        for group in grouped(points):
            before = len(results) * len(examples)

            def report(done: int, before: int = before) -> None:
                self._on_progress(self._task.name, before + done, total)

            scores = self._together(questions, group, report).scores(self._task.normalise)
            for number, of_point in zip(group.numbers, scores, strict=True):
                results[number] = judged_by_scores(self._task, examples, of_point)
        return [results[number] for number in range(len(points))]

    def _alone(self, examples: Sequence[Example], point: SteeringSpec, before: int, total: int) -> TaskResult:
        with attach(self._model, point, anatomy=self._sites, seed=self._seed) as attachment:
            attachment.phase = "eval"
            return evaluate_task(
                self._model,
                self._tokenizer,
                self._task,
                examples,
                batch_tokens=self._batch_tokens,
                max_length=self._max_length,
                on_progress=lambda task, done, _: self._on_progress(task, before + done, total),
            )

    def _together(self, questions: Questions, group: Group, report: Callable[[int], None]) -> Tally:
        """All points of a group, as many of them in a pass as its limits allow."""
        tally = Tally(questions, len(group.points))
        longest = max(map(len, questions.rows))
        # Points before rows: a batch of few items has the least padding, and shares its lower layers most.
        most = 1 if group.by_place else max(1, min(len(group.points), self._batch_tokens // longest))
        first_layer = group.first_layer(self._sites.num_layers)
        with (
            attach(self._model, group.steering, anatomy=self._sites, seed=self._seed) as attachment,
            fanned_out(self._sites, first_layer) as fan,
            reading(self._model) as log_probabilities,
        ):
            for rows in batches(questions.rows, self._batch_tokens // most, max(1, MAX_READS // most)):
                for start in range(0, len(group.points), most):
                    chosen = slice(start, start + most)
                    fan.copies = len(group.points[chosen])
                    with group.rows(attachment, chosen, len(rows), self._sites.num_layers):
                        tally.add(rows, log_probabilities(rows, fan.copies), start)
                report(tally.num_done * len(group.points))
        return tally
