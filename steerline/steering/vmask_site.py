"""The VMASK gate of a model, or the one that is added to it: its schedule, its noise, and what it says of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steerline.config.safr import VmaskSpec
from steerline.data.batch import Batch
from steerline.errors import SteeringError
from steerline.models.anatomy import Anatomy, first_tensor, replace_first
from steerline.models.vmask import VmaskGate
from steerline.steering.draws import uniform_by_sample


class VmaskSite:
    """Drives a gate during training.

    A gate that the model has of its own is found and kept: what is driven is its noise, its temperature and its entropy
    term. A model without one is given one at its embedding, if there is a spec. An added gate that only weighs tokens
    reads the embeddings without pulling at them, so it never changes the model by itself.

    Args:
        model: the Transformers model, alone or wrapped.
        anatomy: its sites.
        spec: none drives the noise of the model's own gate alone.
        seed: of the run; the noise and an added gate's first weights come from it.

    Raises:
        SteeringError: the model has several gates.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy, spec: VmaskSpec | None, seed: int) -> None:
        self.spec = spec
        self._seed = seed
        self._noise: Tensor | None = None
        self._handles: list[RemovableHandle] = []
        found = [module for module in model.modules() if isinstance(module, VmaskGate)]
        if len(found) > 1:
            raise SteeringError("the model has several VMASK gates", got=len(found), expected="one, or none")
        self.added: VmaskGate | None = None
        if not found and spec is not None:
            self.added = _new_gate(model, anatomy.embed.width, spec, seed)
            self._handles.append(anatomy.embed.module.register_forward_hook(self._at_embedding))
        self.gate: VmaskGate | None = found[0] if found else self.added
        self.values: Tensor | None = None
        """[B, T] of the last forward pass inside `start`; in the graph."""
        self.scores: Tensor | None = None
        """[B, T, 2] before the softmax, of the same pass."""
        self._watching = False
        # Losses are balanced before the first step, at its temperature.
        self.start_step(0, None)
        if self.gate is not None:
            self._handles += [
                self.gate.register_forward_pre_hook(self._bring_noise, with_kwargs=True),
                self.gate.register_forward_hook(self._keep_values),
                self.gate.scores.register_forward_hook(self._keep_scores),
            ]

    def detach(self) -> None:
        """Takes the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def start_step(self, step: int, num_steps: int | None) -> None:
        """Sets the temperature: `t0 (t1 / t0)^(step / last step)` where the spec has a final one."""
        if self.gate is None or self.spec is None:
            return
        first, last = self.spec.temperature, self.spec.final_temperature
        share = 0.0 if last is None or num_steps is None else min(1.0, step / max(1, num_steps - 1))
        self.gate.temperature = first if last is None else first * (last / first) ** share

    def entropy_strength(self, epoch: int) -> float:
        """VMASK's beta in an epoch, from 0."""
        return 0.0 if self.spec is None else max(0.0, self.spec.entropy_strength - self.spec.entropy_decrement * epoch)

    def start(self, batch: Batch, step: int, *, wanted: bool) -> None:
        """Before a forward pass on `batch`; `wanted` keeps what the gate says, and runs one that only weighs."""
        self.values, self.scores, self._watching = None, None, wanted and self.gate is not None
        if self.gate is None or not self.gate.training:
            self._noise = None
            return
        key = f"vmask/{self._seed}/{step}"
        uniform = uniform_by_sample(batch.sample_ids, batch.segment_ids, batch.position_ids, key, 2)
        self._noise = -(-uniform.log()).log()

    def stop(self) -> None:
        """After it."""
        self._watching, self._noise = False, None

    def negative_entropy(self) -> Tensor:
        """sum over c of p_c ln p_c for each token, [B, T], in nats, in the graph."""
        assert self.scores is not None
        wide = torch.promote_types(self.scores.dtype, torch.float32)
        log_p = self.scores.to(wide).log_softmax(-1)
        return (log_p.exp() * log_p).sum(-1)

    def _at_embedding(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        assert self.added is not None
        assert self.spec is not None
        embeddings = first_tensor(output)
        if self.spec.apply == "multiply":
            return replace_first(output, self.added(embeddings)[0])
        if self._watching:
            self.added(embeddings.detach())
        return None

    def _bring_noise(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._noise is None:
            return None
        embeddings: Tensor = args[0]
        if embeddings.shape[:2] != self._noise.shape[:2]:
            raise SteeringError(
                "the recorded batch is not the one that went through the model",
                where="the VMASK gate",
                got=f"embeddings {list(embeddings.shape)}",
                expected=f"rows and tokens {list(self._noise.shape[:2])}",
            )
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        return args, {**kwargs, "noise": self._noise.to(embeddings.device, wide)}

    def _keep_values(self, _module: nn.Module, _inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        if self._watching:
            self.values = output[1]

    def _keep_scores(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        if self._watching:
            self.scores = output


def per_sequence(weights: Tensor, segment_ids: Tensor) -> Tensor:
    """Weights [B, T] scaled to a mean of 1 over the tokens of each example, 0 on padding; differentiable.

    A weighted mean over the tokens of a step would need the total weight of all micro-batches and workers before the
    first of them is computed. With this scale a sum over tokens divided by the number of tokens is the mean, over
    examples, of their own weighted means (by length), whatever the batch split. An example without weight gets 0.
    """
    real = segment_ids > 0
    weights = torch.where(real, weights.to(torch.promote_types(weights.dtype, torch.float32)), 0)
    shape = (len(weights), int(segment_ids.max()) + 1)
    totals = weights.new_zeros(shape).scatter_add(1, segment_ids, weights).gather(1, segment_ids)
    counts = weights.new_zeros(shape).scatter_add(1, segment_ids, real.to(weights.dtype)).gather(1, segment_ids)
    return weights * torch.where(totals > 0, counts / torch.where(totals > 0, totals, 1), 0)


def _new_gate(model: nn.Module, width: int, spec: VmaskSpec, seed: int) -> VmaskGate:
    weight = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        gate = VmaskGate(width, spec.hidden_size, spec.temperature)
    return gate.to(weight.device, weight.dtype)
