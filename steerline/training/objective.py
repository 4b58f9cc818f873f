"""What training minimises: the wrapper around a language model whose forward returns the loss."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steerline.config.training import ObjectiveSpec
from steerline.data.batch import Batch
from steerline.errors import ModelError
from steerline.models.anatomy import anatomy
from steerline.steering.attach import attach
from steerline.training.cross_entropy import cross_entropy_sum
from steerline.training.normaliser import Normaliser


@dataclass(frozen=True)
class LossTerm:
    """One term of the loss before its mean is taken, detached."""

    sum: Tensor
    """Scalar: the sum over tokens (nats)."""
    count: Tensor
    """Scalar: the number of values summed; `sum / count`, each summed over micro-batches and workers, is the mean."""


class ObjectiveOutput(NamedTuple):
    """What one micro-batch yields."""

    total: Tensor
    """Scalar in the graph; the sum of the totals of all micro-batches and workers of a step is that step's loss."""
    terms: dict[str, LossTerm]
    """By name: `ce` over target tokens; `entropy` over chosen tokens and layers, where the objective has that term."""
    layer_entropy: dict[int, LossTerm]
    """By layer: the key entropy (nats) over the chosen tokens; empty where it is not measured."""


class ObjectiveModel(nn.Module):
    """A language model with its steering attached, whose forward returns the loss.

    Per micro-batch: `total = ce_sum / targets - strength * sum over layers of entropy_sum / entropy_tokens`, with the
    denominators of the whole step (`Normaliser`). Logits are computed at target positions only.

    Args:
        model: the language model; the mechanisms are attached to it and stay until `detach`.
        spec: the loss.
        seed: seed of the placebos' draws.
        sites: sites named by hand, as in `ModelSpec.sites`.

    Raises:
        ModelError: the model has no language-model head.
    """

    def __init__(
        self, model: PreTrainedModel, spec: ObjectiveSpec, *, seed: int = 0, sites: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        body = anatomy(model, sites or {})
        if body.logits is None:
            raise ModelError(
                "this model has no language-model head, so it has no next-token loss",
                got=body.family,
                expected="a causal language model",
            )
        self.steering = attach(model, spec.steering, anatomy=body, seed=seed)
        self._target_positions: Tensor | None = None
        self._head_hook = body.logits.module.register_forward_pre_hook(self._only_targets)

    def detach(self) -> None:
        """Take every hook off the model again."""
        self.steering.detach()
        self._head_hook.remove()

    def start_step(self, step: int) -> None:
        """Tell the mechanisms which optimiser step follows, counted from 0 (schedules, placebo draws)."""
        self.steering.step = step

    def forward(self, batch: Batch, normaliser: Normaliser, measure: bool = False) -> ObjectiveOutput:
        """The loss of one micro-batch.

        Args:
            batch: B rows of T tokens.
            normaliser: the counts of the whole optimiser step.
            measure: also measure the key entropy of every layer, without gradient.
        """
        entropy = self.spec.steering.entropy
        strength = self.steering.entropy_strength if self.steering.phase == "train" else 0.0
        recorded = measure or strength != 0
        with ExitStack() as stack:
            recording = (
                stack.enter_context(self.steering.recording(batch.target_mask, batch.token_mask, measure=measure))
                if recorded
                else None
            )
            logits, targets = self._target_logits(batch)
        ce = cross_entropy_sum(logits, targets)
        total = ce / normaliser.targets
        terms = {"ce": _term(ce, batch.num_targets)}
        if recording is None:
            return ObjectiveOutput(total, terms, {})
        if strength != 0 and entropy is not None:
            sums = recording.entropy_sums()
            tokens = normaliser.targets if entropy.tokens == "answer" else normaliser.tokens
            total = total - strength * sums.sum() / tokens
            terms["entropy"] = LossTerm(sums.sum().detach(), recording.num_tokens * len(sums))
        measured = {layer: LossTerm(total, recording.num_tokens) for layer, total in recording.measured.items()}
        return ObjectiveOutput(total, terms, measured)

    def _target_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        labels = batch.labels.flatten()
        positions = batch.target_mask.flatten().nonzero().squeeze(1)
        self._target_positions = positions
        try:
            output = self.model(**batch.model_inputs(self.model.config))
        finally:
            self._target_positions = None
        return output.logits[0], labels[positions]

    def _only_targets(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._target_positions is None:
            return None
        hidden, *rest = inputs
        # [B, T, D] -> [1, N, D]: what follows the head (scaling, soft caps) works on any leading shape.
        return hidden.flatten(0, 1).index_select(0, self._target_positions)[None], *rest


def _term(total: Tensor, count: int) -> LossTerm:
    return LossTerm(total.detach(), torch.tensor(float(count)))
