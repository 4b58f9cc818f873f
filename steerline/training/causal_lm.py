"""The base loss of a language model: next-token cross entropy at target positions."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from steerline.data.batch import Batch
from steerline.errors import ModelError
from steerline.models.anatomy import Anatomy
from steerline.training.base_loss import BaseResult
from steerline.training.cross_entropy import cross_entropy_sum


class CausalLMLoss:
    """The summed cross entropy of the next tokens. Logits are computed at target positions only.

    Args:
        model: the language model; one hook sits at its head until `detach`.
        body: its sites.

    Raises:
        ModelError: the model has no language-model head.
    """

    def __init__(self, model: PreTrainedModel, body: Anatomy) -> None:
        if body.logits is None:
            raise ModelError(
                "this model has no language-model head, so it has no next-token loss",
                got=body.family,
                expected="a causal language model",
            )
        self._model = model
        self._positions: Tensor | None = None
        self._head_hook = body.logits.module.register_forward_pre_hook(self._only_targets)

    def __call__(self, batch: Batch) -> BaseResult:
        """The loss of B rows of T tokens, in nats."""
        logits, targets = self.target_logits(batch)
        return BaseResult(cross_entropy_sum(logits, targets), len(targets))

    def target_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [N, V] at the N target positions of a batch, row by row, and the tokens [N] to predict there."""
        positions = batch.target_mask.flatten().nonzero().squeeze(1)
        self._positions = positions
        try:
            output = self._model(**batch.model_inputs(self._model.config))
        finally:
            self._positions = None
        return output.logits[0], batch.labels.flatten()[positions]

    def detach(self) -> None:
        """Takes the hook off the head again."""
        self._head_hook.remove()

    def _only_targets(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._positions is None:
            return None
        hidden, *rest = inputs
        # [B, T, D] -> [1, N, D]: what follows the head (scaling, soft caps) works on any leading shape.
        return hidden.flatten(0, 1).index_select(0, self._positions)[None], *rest
