"""What training minimises: the wrapper around a language model whose forward returns the loss."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from steerline.config.training import ObjectiveSpec
from steerline.data.batch import Batch
from steerline.models.anatomy import Anatomy, anatomy
from steerline.steering.attach import attach
from steerline.training.base_loss import BaseLoss, LossTerm, term
from steerline.training.causal_lm import CausalLMLoss
from steerline.training.normaliser import Normaliser


class ObjectiveOutput(NamedTuple):
    """What one micro-batch yields."""

    total: Tensor
    """Scalar in the graph; the sum of the totals of all micro-batches and workers of a step is that step's loss."""
    terms: dict[str, LossTerm]
    """By name: `ce` over targets, and what else the base loss measures; `entropy` over chosen tokens and layers, where
    the objective has that term."""
    layer_entropy: dict[int, LossTerm]
    """By layer: the key entropy (nats) over the chosen tokens; empty where it is not measured."""


class ObjectiveModel(nn.Module):
    """A language model with its steering attached, whose forward returns the loss.

    Per micro-batch: `total = ce_sum / targets - strength * sum over layers of entropy_sum / entropy_tokens`, with the
    denominators of the whole step (`Normaliser`).

    Args:
        model: the language model; the mechanisms are attached to it and stay until `detach`.
        spec: the loss.
        seed: seed of the placebos' draws.
        sites: sites named by hand, as in `ModelSpec.sites`.

    Raises:
        ModelError: the model has no head for this loss.
    """

    def __init__(
        self, model: PreTrainedModel, spec: ObjectiveSpec, *, seed: int = 0, sites: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        body = anatomy(model, sites or {})
        self._base_loss = _base_loss(model, spec, body)
        self.steering = attach(model, spec.steering, anatomy=body, seed=seed)

    def detach(self) -> None:
        """Take every hook off the model again."""
        self.steering.detach()
        self._base_loss.detach()

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
            base = self._base_loss(batch)
        total = base.sum / normaliser.targets
        terms = {"ce": term(base.sum, base.count), **base.extra}
        if recording is None:
            return ObjectiveOutput(total, terms, {})
        if strength != 0 and entropy is not None:
            sums = recording.entropy_sums()
            tokens = normaliser.targets if entropy.tokens == "answer" else normaliser.tokens
            total = total - strength * sums.sum() / tokens
            terms["entropy"] = LossTerm(sums.sum().detach(), recording.num_tokens * len(sums))
        measured = {layer: LossTerm(total, recording.num_tokens) for layer, total in recording.measured.items()}
        return ObjectiveOutput(total, terms, measured)


def _base_loss(model: PreTrainedModel, spec: ObjectiveSpec, body: Anatomy) -> BaseLoss:
    if spec.kind == "classification":
        from steerline.training.classification import ClassificationLoss

        return ClassificationLoss(model)
    return CausalLMLoss(model, body)
