"""The loss over classes: a sum over rows, with the rows that are right beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from steerline.config.training import ObjectiveSpec
from steerline.data.batch import Row, collate
from steerline.data.tokens import classified
from steerline.errors import ModelError
from steerline.models.safr_classifier import SafrClassifierConfig
from steerline.training.classification import ClassificationLoss
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.sums import StepSums
from steerline.training.workers import Workers
from tests.tiny import tiny_config, tiny_model


def classifier(family: str = "safr") -> PreTrainedModel:
    torch.manual_seed(0)
    if family == "safr":
        config = SafrClassifierConfig(vocab_size=64, hidden_size=16, intermediate_size=32, vmask_hidden_size=8)
    else:
        config = tiny_config(family, vocab=64, num_labels=2)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    return model.eval()


def rows(*lengths: int) -> list[Row]:
    rng = np.random.default_rng(0)
    return [
        (classified(f"r{i}", rng.integers(3, 64, n).astype(np.int32), int(rng.integers(2)), 0),)
        for i, n in enumerate(lengths)
    ]


@pytest.mark.parametrize("family", ["safr", "bert", "llama"])
def test_the_sum_over_rows_does_not_depend_on_how_they_are_batched(family: str) -> None:
    loss = ClassificationLoss(classifier(family))
    texts = rows(5, 9, 2, 7)
    whole = loss(collate(texts, 0))
    alone = [loss(collate([text], 0)) for text in texts]
    assert whole.count == 4
    torch.testing.assert_close(whole.sum, torch.stack([part.sum for part in alone]).sum(), rtol=1e-5, atol=1e-5)
    assert float(whole.extra["correct"].sum) == sum(float(part.extra["correct"].sum) for part in alone)


def test_the_loss_is_the_cross_entropy_of_the_models_logits() -> None:
    model = classifier()
    batch = collate(rows(5, 9), 0)
    logits = model(**batch.model_inputs(model.config)).logits
    labels = batch.labels.max(1).values
    result = ClassificationLoss(model)(batch)
    torch.testing.assert_close(result.sum, torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
    assert float(result.extra["correct"].sum) == float((logits.argmax(1) == labels).sum())


def test_a_worker_without_rows_adds_nothing_and_still_has_a_gradient() -> None:
    model = classifier()
    result = ClassificationLoss(model)(collate([], 0))
    assert (float(result.sum), result.count) == (0.0, 0)
    torch.autograd.backward(result.sum)
    assert all(p.grad is None or float(p.grad.abs().max()) == 0 for p in model.parameters())


def test_a_language_model_has_no_loss_over_classes() -> None:
    with pytest.raises(ModelError, match="no classification head"):
        ClassificationLoss(tiny_model("gpt2"))


def test_the_objective_reports_the_accuracy() -> None:
    objective = ObjectiveModel(classifier(), ObjectiveSpec(kind="classification"))
    batch = collate(rows(5, 9, 4), 0)
    normaliser = Normaliser.over([batch], Workers())
    assert normaliser.targets == 3
    metrics = StepSums([objective(batch, normaliser)], Workers()).metrics("heldout")
    assert metrics["heldout/accuracy"] * 3 == pytest.approx(round(metrics["heldout/accuracy"] * 3))
    assert metrics["heldout/loss"] == pytest.approx(metrics["heldout/loss_ce"])
