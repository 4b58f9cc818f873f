"""What SAFR's sites gather during one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from steerline.config.steering import SteeringSpec
from steerline.data.batch import Batch
from steerline.errors import SteeringError
from steerline.models.anatomy import first_tensor, replace_first
from steerline.steering.safr_importance import importance_sum
from steerline.steering.segments import unpack
from steerline.steering.vmask_site import VmaskSite, per_sequence


class SideTerm(NamedTuple):
    """One term of a micro-batch, before its mean is taken."""

    sum: Tensor
    """Scalar in the graph, over tokens and layers."""
    layers: int
    """How many layers were summed."""
    per: Literal["tokens", "positions"]
    """What it is a mean over: tokens, or all positions, padding too (reference formulas)."""


class SafrRecording:
    """The terms of one forward pass, summed over its tokens.

    Attributes:
        batch: what goes through the model.
        wanted: names of the terms that are gathered: `importance`, `interaction`, `vmask_entropy`, and `vmask` for the
            gate's mean.
        deferred: per layer, vectors [B, T, E] whose tokens' weights are known only after the base loss.
    """

    def __init__(self, batch: Batch, wanted: set[str], spec: SteeringSpec, vmask: VmaskSite) -> None:
        self.batch = batch
        self.wanted = wanted
        self.deferred: dict[int, Tensor] = {}
        self._spec = spec
        self._vmask = vmask
        self._sums: dict[str, dict[int, Tensor]] = {}
        self._embedding: Tensor | None = None
        self._wants_grad = torch.is_grad_enabled()

    def add(self, name: str, layer: int, total: Tensor) -> None:
        """Files a layer's sum.

        Raises:
            SteeringError: there is one already.
        """
        if layer in self._sums.setdefault(name, {}):
            raise SteeringError(
                "a recording holds one forward pass, and a second one came",
                where=f"layer {layer}",
                fix="open `recording(...)` once per forward pass",
            )
        self._sums[name][layer] = total

    def check_gradient(self, layer: int, name: str) -> None:
        """Raises a SteeringError where a term is computed but its gradient could not arrive."""
        if self._wants_grad and not torch.is_grad_enabled():
            raise SteeringError(
                f"the {name} term was computed where its gradient cannot arrive: inside reentrant activation "
                "checkpointing",
                where=f"layer {layer}",
                expected="non-reentrant checkpointing; when no gradient is wanted, torch.no_grad() around `recording`",
                fix="use_reentrant=False",
            )

    def token_weights(self) -> Tensor:
        """The gate's values [B, T], scaled to a mean of 1 over each example, in the graph.

        They are not detached: in the paper the importance term pulls at the gate through x = r e; where the gate only
        weighs, this is what trains it.
        """
        if self._vmask.values is None:
            raise SteeringError("the VMASK gate was not run before the vectors that it weighs", got="no gate values")
        return per_sequence(self._vmask.values, self._segments())

    def importance_loss(self, layer: int, x: Tensor) -> Callable[[Tensor, Tensor | None], Tensor]:
        """The importance sum as a function of vectors of the shape of `x` and of weights [B, T].

        Raises:
            SteeringError: the vectors are not those of the batch.
        """
        spec, batch = self._spec.importance, self.batch
        assert spec is not None
        B, T = batch.segment_ids.shape
        if x.shape[:-1].numel() != B * T:
            raise SteeringError(
                "the recorded batch is not the one that went through the model",
                where=f"layer {layer}",
                got=f"vectors of {x.shape[:-1].numel()} tokens",
                expected=f"{B} rows of {T} tokens; routed experts are not supported",
            )

        def loss(x: Tensor, weights: Tensor | None) -> Tensor:
            rows, mask = x.reshape(B, T, -1), batch.token_mask
            if batch.is_packed:
                rows, mask = unpack(rows, batch.segment_ids)
                weights = None if weights is None else unpack(weights, batch.segment_ids)[0]
            return importance_sum(rows, mask, weights, variant=spec.variant, center=spec.center)

        return loss

    def keep_embedding(self, output: Any) -> Any:
        """Keeps the embedding [B, T, E] of the pass, as a leaf where nothing below it is trained."""
        embedding = first_tensor(output)
        if torch.is_grad_enabled() and not embedding.requires_grad:
            embedding = embedding.detach().requires_grad_()
            output = replace_first(output, embedding)
        self._embedding = embedding
        return output

    def weigh_by_gradient(self, base: Tensor) -> None:
        """Computes the deferred importance, with each token weighted by |gradient . input| of the base loss.

        The weights are constants, scaled to a mean of 1 over each example. Takes one more backward pass.

        Args:
            base: the summed base loss, in the graph.
        """
        if not self.deferred:
            return
        assert self._embedding is not None
        (gradient,) = torch.autograd.grad(base, self._embedding, retain_graph=True)
        product = gradient.detach().double() * self._embedding.detach().double()
        weights = per_sequence(product.sum(-1).abs(), self._segments()).to(torch.float32)
        for layer, x in self.deferred.items():
            self.add("importance", layer, self.importance_loss(layer, x)(x, weights))
        self.deferred = {}

    def terms(self) -> dict[str, SideTerm]:
        """What was gathered, by name: `importance`, `interaction`, `vmask_entropy`, `vmask_mean`.

        Raises:
            SteeringError: no forward pass went through the model.
        """
        found: dict[str, SideTerm] = {}
        names: tuple[Literal["importance", "interaction"], ...] = ("importance", "interaction")
        for name in names:
            if name in self.wanted:
                sums = list(self._sums.get(name, {}).values())
                if not sums:
                    raise SteeringError(
                        f"no forward pass was recorded for the {name} term",
                        fix="run the whole model once inside `recording(...)`",
                    )
                found[name] = SideTerm(torch.stack(sums).sum(), len(sums), self._per(name))
        mask = self.batch.token_mask
        if "vmask_entropy" in self.wanted:
            entropy = -torch.where(mask, self._vmask.negative_entropy(), 0).sum()
            found["vmask_entropy"] = SideTerm(entropy, 1, "tokens")
        if "vmask" in self.wanted and self._vmask.values is not None:
            values = self._vmask.values.detach().float()
            found["vmask_mean"] = SideTerm(torch.where(mask, values, 0).sum(), 1, "tokens")
        return found

    def _per(self, name: Literal["importance", "interaction"]) -> Literal["tokens", "positions"]:
        spec = self._spec.importance if name == "importance" else self._spec.interaction
        return "positions" if spec is not None and spec.variant == "reference" else "tokens"

    def _segments(self) -> Tensor:
        """Which tokens' weights are scaled together: an example's, or with padding a row's in the reference formula."""
        segments = self.batch.segment_ids
        return torch.ones_like(segments) if self._per("importance") == "positions" else segments
