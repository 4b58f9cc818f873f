"""The points of a sweep over inference-time steering, evaluated on one loaded model: what light trials call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from steerline.config.evaluate import EvaluateSpec
from steerline.config.steering import SteeringSpec
from steerline.evaluation.many_strengths import evaluate_many
from steerline.evaluation.report import metrics
from steerline.evaluation.results import EvaluationResult
from steerline.evaluation.tasks import OnProgress
from steerline.models.anatomy import anatomy
from steerline.models.load import LoadedModel, load_model


@dataclass(frozen=True)
class PointResult:
    """One point, judged.

    Args:
        steering: the point.
        result: every item of every task, for paired tests.
        metrics: `eval/<task>/accuracy`, its interval and the number of items; the same for each group.
    """

    steering: SteeringSpec
    result: EvaluationResult
    metrics: Mapping[str, float]


def load_for(spec: EvaluateSpec) -> LoadedModel:
    """The model that a job judges, on the device that it runs on.

    Raises:
        ModelError, FetchError: it cannot be loaded.
    """
    dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
    loaded = load_model(spec.model, dtype=dtype, classes=spec.classes, seed=spec.seed)
    loaded.model.to("cuda" if spec.cluster.use_gpu else "cpu")
    return loaded


def evaluate_points(
    spec: EvaluateSpec,
    points: Sequence[SteeringSpec],
    *,
    loaded: LoadedModel | None = None,
    on_progress: OnProgress = lambda _task, _done, _total: None,
) -> list[PointResult]:
    """Judge a model under every point, in order; `spec.steering` and `spec.strengths` do not matter here.

    Points that differ in strength, or in residual scales, share batches; equal points are computed once.

    Args:
        spec: model, tasks, seed and device.
        points: the steerings. Which of them act is for `spec.evaluation.steering` to say.
        loaded: the model, where a caller keeps it from one call to the next; none loads it.
        on_progress: as for `evaluate_many`.

    Raises:
        ModelError, FetchError: the model cannot be loaded.
        EvaluationError, SteeringError, DataError: as `evaluate_many`.
    """
    ready = loaded or load_for(spec)
    results = evaluate_many(
        ready.model,
        ready.tokenizer,
        spec.evaluation,
        points,
        anatomy=anatomy(ready.model, spec.model.sites),
        seed=spec.seed,
        max_length=spec.max_length_tokens,
        on_progress=on_progress,
    )
    return [PointResult(point, result, metrics(result)) for point, result in zip(points, results, strict=True)]
