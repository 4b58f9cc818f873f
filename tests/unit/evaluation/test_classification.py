"""A classifier is judged by its largest logit, whatever the batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from steerline.config.data import ClassificationFormat, DatasetSpec, FileData
from steerline.config.evaluation import TaskEvaluation
from steerline.config.model import WordTokenizer
from steerline.data.examples import Example
from steerline.errors import EvaluationError
from steerline.evaluation.tasks import evaluate_task
from steerline.models.safr_classifier import SafrClassifierConfig
from steerline.models.word_tokenizer import word_tokenizer

WORDS = "a fine film that nobody can forget".split()  # noqa: SIM905
TOKENIZER = word_tokenizer(WordTokenizer(kind="words", min_frequency=1), [" ".join(WORDS)])
CLASSES = ("bad", "good")


def classifier(num_labels: int = 2) -> Any:
    torch.manual_seed(0)
    config = SafrClassifierConfig(
        vocab_size=16, hidden_size=16, intermediate_size=32, vmask_hidden_size=8, num_labels=num_labels
    )
    return AutoModelForSequenceClassification.from_config(config).eval()


def examples() -> list[Example]:
    texts = [" ".join(WORDS[i : i + 1 + i % 4]) for i in range(6)]
    return [
        Example(f"e{i}", text, CLASSES[i % 2], choices=CLASSES, label=i % 2, target="class")
        for i, text in enumerate(texts)
    ]


TASK = TaskEvaluation(
    name="films",
    method="classify",
    dataset=DatasetSpec(
        source=FileData(kind="file", path="none"), format=ClassificationFormat(kind="classification", classes=CLASSES)
    ),
)


def test_predictions_are_the_largest_logits_and_scores_are_log_probabilities() -> None:
    model = classifier()
    result = evaluate_task(model, TOKENIZER, TASK, examples())
    for item, example in zip(result.items, examples(), strict=True):
        logits = model(torch.tensor([TOKENIZER(example.prompt)["input_ids"]])).logits[0]
        assert item.prediction == CLASSES[int(logits.argmax())]
        assert item.correct == (item.prediction == example.answer)
        assert item.scores == pytest.approx(logits.log_softmax(0).tolist(), abs=1e-5)
    assert result.chance == 0.5


def test_neither_the_batches_nor_the_workers_change_the_result() -> None:
    model = classifier()
    whole = evaluate_task(model, TOKENIZER, TASK, examples())
    single = evaluate_task(model, TOKENIZER, TASK, examples(), batch_tokens=1)
    shares = [evaluate_task(model, TOKENIZER, TASK, examples(), rank=r, world_size=2) for r in range(2)]
    parted = sorted((item for share in shares for item in share.items), key=lambda item: item.index)
    for other in (single.items, tuple(parted)):
        assert [item.prediction for item in other] == [item.prediction for item in whole.items]
        for one, two in zip(other, whole.items, strict=True):
            assert one.scores == pytest.approx(two.scores, abs=1e-5)


def test_texts_are_cut_as_in_training() -> None:
    model = classifier()
    cut = evaluate_task(model, TOKENIZER, TASK, examples()[3:4], max_length=2)
    logits = model(torch.tensor([TOKENIZER(examples()[3].prompt)["input_ids"][:2]])).logits[0]
    assert cut.items[0].scores == pytest.approx(logits.log_softmax(0).tolist(), abs=1e-5)


def test_other_classes_than_the_models_are_an_error() -> None:
    with pytest.raises(EvaluationError, match="does not tell these classes apart"):
        evaluate_task(classifier(3), TOKENIZER, TASK, examples())


def test_a_text_without_tokens_is_named() -> None:
    empty = Example("e9", "  ", "bad", choices=CLASSES, label=0, target="class")
    with pytest.raises(EvaluationError, match="no tokens") as caught:
        evaluate_task(classifier(), TOKENIZER, TASK, [empty])
    assert "e9" in str(caught.value)
