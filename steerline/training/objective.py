"""What training minimises: the wrapper around a model whose forward returns the loss."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from steerline.config.training import ObjectiveSpec
from steerline.data.batch import Batch
from steerline.models.anatomy import Anatomy, anatomy
from steerline.models.vmask import VmaskGate
from steerline.steering.attach import attach
from steerline.steering.recording import Recording
from steerline.training.base_loss import BaseLoss, LossTerm, term
from steerline.training.causal_lm import CausalLMLoss
from steerline.training.classification import ClassificationLoss
from steerline.training.normaliser import Normaliser


class ObjectiveOutput(NamedTuple):
    """What one micro-batch yields."""

    total: Tensor
    """Scalar in the graph; the sum of the totals of all micro-batches and workers of a step is that step's loss."""
    terms: dict[str, LossTerm]
    """By name: `ce` over targets, and what else the base loss measures; `entropy` (of the keys), `importance` and
    `interaction` over tokens and layers, `vmask_entropy` and `vmask_mean` over tokens, where they are there."""
    layer_entropy: dict[int, LossTerm]
    """By layer: the key entropy (nats) over the chosen tokens; empty where it is not measured."""


class SideLoss(NamedTuple):
    """A term beside the base loss: a micro-batch adds `strength * sum / denominator` to the total."""

    strength: float
    """From the spec and its schedule; below 0 where more is better."""
    sum: Tensor
    """Scalar in the graph, over tokens and layers."""
    denominator: float
    """Of the whole step: what the sum is a mean over."""


class Parts(NamedTuple):
    """One micro-batch before it is added up."""

    base: Tensor
    """Scalar in the graph: the base loss's share of the step's mean."""
    side: dict[str, SideLoss]
    """By name."""
    terms: dict[str, LossTerm]
    layer_entropy: dict[int, LossTerm]


class ObjectiveModel(nn.Module):
    """A model with its steering attached, whose forward returns the loss.

    Per micro-batch, with the denominators of the whole step (`Normaliser`):

        total = ce_sum / targets + sum over side losses of balance * strength * sum / denominator

    The side losses: key entropy (strength below 0 of the spec's), importance, interaction, VMASK's entropy (minus
    beta). Each is a sum over layers of a mean over tokens; `balance` is 1 unless `ObjectiveSpec.balance` found others.

    Args:
        model: the model; the mechanisms are attached to it and stay until `detach`.
        spec: the loss.
        seed: seed of the placebos' and the gate's draws.
        sites: sites named by hand, as in `ModelSpec.sites`.

    Raises:
        ModelError: the model has no head for this loss.
        SteeringError: a mechanism does not fit the model.
    """

    def __init__(
        self, model: PreTrainedModel, spec: ObjectiveSpec, *, seed: int = 0, sites: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        body = anatomy(model, sites or {})
        self._base_loss = _base_loss(model, spec, body)
        try:
            self.steering = attach(model, spec.steering, anatomy=body, seed=seed)
        except BaseException:
            self._base_loss.detach()
            raise
        self.gate: VmaskGate | None = self.steering.safr.vmask.added
        """A gate that was added to the model; trained and saved with it."""
        self.balance: dict[str, float] = {}
        """By side loss: the constant that `ObjectiveSpec.balance` multiplies its strength by."""

    def detach(self) -> None:
        """Take every hook off the model again."""
        self.steering.detach()
        self._base_loss.detach()

    def start_step(self, step: int, epoch: int = 0, num_steps: int | None = None) -> None:
        """Tell the mechanisms which optimiser step follows: schedules, draws, the gate's temperature and entropy.

        Args:
            step: counted from 0.
            epoch: pass over the data in which the step begins, counted from 0.
            num_steps: of the whole run.
        """
        self.steering.start_step(step, epoch, num_steps)

    def side_losses(self) -> set[str]:
        """Names of the side losses that have a strength now."""
        entropy = {"entropy"} if self.steering.entropy_strength != 0 else set()
        return entropy | set(self.steering.safr.strengths())

    def state(self) -> dict[str, Any]:
        """What a checkpoint's `state.json` keeps of the objective, apart from weights."""
        return {"balance": self.balance}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.balance = dict(state["balance"])

    def forward(self, batch: Batch, normaliser: Normaliser, measure: bool = False) -> ObjectiveOutput:
        """The loss of one micro-batch.

        Args:
            batch: B rows of T tokens.
            normaliser: the counts of the whole optimiser step.
            measure: also measure what the loss does not need: the key entropy of every layer, the gate's mean and, in
                evaluation, SAFR's terms; without gradient.
        """
        parts = self.parts(batch, normaliser, measure)
        total = parts.base
        for name, loss in parts.side.items():
            total = total + self.balance.get(name, 1.0) * loss.strength * loss.sum / loss.denominator
        return ObjectiveOutput(total, parts.terms, parts.layer_entropy)

    def parts(self, batch: Batch, normaliser: Normaliser, measure: bool = False) -> Parts:
        """The terms of one micro-batch, one by one; the arguments are those of `forward`."""
        train = self.steering.phase == "train"
        entropy_strength = self.steering.entropy_strength if train else 0.0
        with ExitStack() as stack:
            keys = (
                stack.enter_context(self.steering.recording(batch.target_mask, batch.token_mask, measure=measure))
                if measure or entropy_strength != 0
                else None
            )
            safr = stack.enter_context(self.steering.safr.recording(batch, train=train, measure=measure))
            base = self._base_loss(batch)
        safr.weigh_by_gradient(base.sum)
        terms = {"ce": term(base.sum, base.count), **base.extra}
        side: dict[str, SideLoss] = {}
        if keys is not None and entropy_strength != 0:
            side["entropy"], terms["entropy"] = self._key_entropy(keys, entropy_strength, normaliser)
        strengths = self.steering.safr.strengths() if train else {}
        for name, found in safr.terms().items():
            local = _count(batch, found.per)
            terms[name] = term(found.sum, local * found.layers)
            if name in strengths:
                side[name] = SideLoss(strengths[name], found.sum, normaliser.count(found.per))
        measured = {} if keys is None else keys.measured
        layers = {layer: LossTerm(total, keys.num_tokens) for layer, total in measured.items() if keys is not None}
        return Parts(base.sum / normaliser.targets, side, terms, layers)

    def _key_entropy(self, recording: Recording, strength: float, normaliser: Normaliser) -> tuple[SideLoss, LossTerm]:
        spec = self.spec.steering.entropy
        sums = recording.entropy_sums()
        tokens = normaliser.targets if spec is not None and spec.tokens == "answer" else normaliser.tokens
        total = sums.sum()
        return SideLoss(-strength, total, tokens), LossTerm(total.detach(), recording.num_tokens * len(sums))


def _count(batch: Batch, per: Literal["tokens", "positions"]) -> int:
    return batch.input_ids.numel() if per == "positions" else int(batch.token_mask.sum())


def _base_loss(model: PreTrainedModel, spec: ObjectiveSpec, body: Anatomy) -> BaseLoss:
    if spec.kind == "classification":
        return ClassificationLoss(model)
    return CausalLMLoss(model, body)
