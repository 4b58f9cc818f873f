"""What a job that trains a classifier needs of its other parts, and what needs such a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steerline.config.base import misfit
from steerline.config.data import ClassificationFormat, DatasetSpec
from steerline.config.model import RandomModel, WordTokenizer

if TYPE_CHECKING:
    from pydantic_core import PydanticCustomError

    from steerline.config.finetune import FinetuneSpec


def misfit_of(spec: FinetuneSpec) -> PydanticCustomError | None:
    """The first thing in a job that does not go with the kind of its objective; none where all does."""
    found = _of_data(spec) or _of_tasks(spec)
    if found is not None:
        return found
    return _of_classifier(spec) if spec.objective.kind == "classification" else _of_language_model(spec)


def classes_of(spec: FinetuneSpec) -> tuple[str, ...] | None:
    """Names of the classes that the job tells apart; none for a job that trains on next tokens."""
    first = spec.data.train[0].format
    if spec.objective.kind == "classification" and isinstance(first, ClassificationFormat):
        return first.classes
    return None


def _datasets(spec: FinetuneSpec) -> list[tuple[str, DatasetSpec]]:
    sets = [(f"data.train.{i}", dataset) for i, dataset in enumerate(spec.data.train)]
    return sets + [(f"data.heldout.{i}", dataset) for i, dataset in enumerate(spec.data.heldout)]


def _of_data(spec: FinetuneSpec) -> PydanticCustomError | None:
    wanted = spec.objective.kind == "classification"
    for path, dataset in _datasets(spec):
        is_classification = isinstance(dataset.format, ClassificationFormat)
        if wanted and not is_classification:
            return misfit(
                "a classifier is trained on texts with a class",
                f"{path}.format.kind",
                "objective.kind",
                expected="format {kind: classification, classes: [...]}",
            )
        if is_classification and not wanted:
            return misfit(
                "rows with a class train a classifier, and this job trains on next tokens",
                f"{path}.format.kind",
                "objective.kind",
                fix="set `objective.kind: classification`",
            )
    return None


def _of_tasks(spec: FinetuneSpec) -> PydanticCustomError | None:
    wanted = spec.objective.kind == "classification"
    for index, task in enumerate(spec.evaluation.tasks):
        path = f"evaluation.tasks.{index}"
        if wanted != (task.method == "classify"):
            return misfit(
                "a classifier is judged by `method: classify`" if wanted else "only a classifier can classify",
                f"{path}.method",
                "objective.kind",
                fix="set `method: classify`" if wanted else "set `method: likelihood` or `generate`",
            )
        if wanted and not isinstance(task.dataset.format, ClassificationFormat):
            return misfit(
                "`method: classify` reads texts with a class",
                f"{path}.dataset.format.kind",
                expected="format {kind: classification, classes: [...]}",
            )
    return None


def _of_classifier(spec: FinetuneSpec) -> PydanticCustomError | None:
    sets = [(f"{path}.format.classes", dataset) for path, dataset in _datasets(spec)]
    sets += [
        (f"evaluation.tasks.{i}.dataset.format.classes", task.dataset) for i, task in enumerate(spec.evaluation.tasks)
    ]
    classes = classes_of(spec)
    for path, dataset in sets:
        if isinstance(dataset.format, ClassificationFormat) and dataset.format.classes != classes:
            return misfit(
                "the data sets name different classes",
                path,
                "data.train.0.format.classes",
                expected="the same classes in the same order everywhere",
            )
    if spec.data.packing:
        return misfit(
            "a classifier reads one text per row, so its rows cannot be packed",
            "data.packing",
            fix="set `data.packing: false`",
        )
    if spec.model.lora is not None:
        return misfit(
            "adapters are for language models: a classifier's head starts from random numbers and is trained whole",
            "model.lora",
            fix="leave `model.lora` out",
        )
    return _of_early_stopping(spec)


def _of_language_model(spec: FinetuneSpec) -> PydanticCustomError | None:
    source = spec.model.source
    words = source.tokenizer if isinstance(source, RandomModel) else None
    if isinstance(words, WordTokenizer) and words.end_of_text is None:
        return misfit(
            "this tokenizer of whole words has no end of text, which a language model needs",
            "model.source.tokenizer",
            fix="set `end_of_text: <eos>`, leave `tokenizer` out for a byte-level one, or classify",
        )
    early = spec.training.early_stopping
    if early is not None and early.metric == "heldout/accuracy":
        return misfit(
            "only a classifier has a held-out accuracy",
            "training.early_stopping.metric",
            fix="set `metric: heldout/loss` and `mode: min`",
        )
    return _of_early_stopping(spec)


def _of_early_stopping(spec: FinetuneSpec) -> PydanticCustomError | None:
    if spec.training.early_stopping is None or spec.data.heldout:
        return None
    return misfit(
        "early stopping needs held-out data to look at",
        "training.early_stopping",
        "data.heldout",
        fix="set `data.heldout`, or leave `early_stopping` out",
    )
