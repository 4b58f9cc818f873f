"""The base loss of a classifier: cross entropy of one class per row."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from steerline.data.batch import Batch
from steerline.errors import ModelError
from steerline.training.base_loss import BaseResult, term


class ClassificationLoss:
    """The summed cross entropy of each row's class, and how many rows are right.

    Args:
        model: a sequence classifier of Transformers: logits [B, C], one row of a batch a text.

    Raises:
        ModelError: the model is no classifier.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        if not model.__class__.__name__.endswith("ForSequenceClassification"):
            raise ModelError(
                "this model has no classification head, so it has no loss over classes",
                got=type(model).__name__,
                expected="a model for sequence classification",
            )
        self._model = model

    def __call__(self, batch: Batch) -> BaseResult:
        """The loss of B rows of T tokens, in nats. The class of a row stands at its one target position.

        A row of padding, which a worker without work is given, has no class and adds nothing.
        """
        logits = self._model(**batch.model_inputs(self._model.config)).logits
        rows, positions = batch.target_mask.nonzero(as_tuple=True)
        chosen = logits[rows]
        chosen = chosen.to(torch.promote_types(chosen.dtype, torch.float32))
        classes = batch.labels[rows, positions]
        loss = nn.functional.cross_entropy(chosen, classes, reduction="sum")
        right = (chosen.argmax(dim=-1) == classes).sum()
        return BaseResult(loss, len(rows), {"correct": term(right, len(rows))})

    def detach(self) -> None:
        """Nothing is hooked."""
