"""SAFR's terms at the sites of any model: the tokens' vectors, the attention of chosen layers, the VMASK gate.

Each term is a sum over tokens (and layers), taken where the activation is; the objective divides by counts of the whole
optimiser step. Examples of a packed row are taken apart first, so they never see each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steerline.config.steering import SteeringSpec
from steerline.data.batch import Batch
from steerline.errors import SteeringError
from steerline.models.anatomy import Anatomy, Site, first_tensor
from steerline.steering.attention_capture import AttentionCall, Tap, tap
from steerline.steering.capture_proof import CaptureProof
from steerline.steering.layers import select_layers
from steerline.steering.safr_interaction import hidden_interaction_sum, interaction_sum
from steerline.steering.safr_recording import SafrRecording
from steerline.steering.schedule import schedule_factor
from steerline.steering.segments import unpack
from steerline.steering.side_loss import from_kept, from_saved
from steerline.steering.vmask_site import VmaskSite

EMBEDDING = -1
"""Stands for the embedding where layers are numbered."""


class SafrSites:
    """The hooks of SAFR's terms, and what they gather during a forward pass.

    Args:
        model: the model.
        anatomy: its sites.
        spec: terms of strength 0 get no hook.
        seed: of the run.

    Raises:
        SteeringError: a layer does not exist, or its attention cannot be captured; weights come from a gate that does
            not exist.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy, spec: SteeringSpec, seed: int) -> None:
        self._anatomy = anatomy
        self._spec = spec
        self._importance = spec.importance if spec.importance is not None and spec.importance.strength else None
        self._interaction = spec.interaction if spec.interaction is not None and spec.interaction.strength else None
        self._step = 0
        self._epoch = 0
        self.at_full_strength = False
        """Whether schedules are left out of `strengths`."""
        self._recording: SafrRecording | None = None
        self._hidden: dict[int, Tensor] = {}
        self._proof = CaptureProof(anatomy.family)
        self._handles: list[RemovableHandle | Tap] = []
        self.vmask = VmaskSite(model, anatomy, spec.vmask, seed)
        try:
            self._check_weights()
            # After the gate's hook, so that the vectors are those that it lets through.
            self._hook_importance()
            self._hook_interaction()
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Removes the hooks; once detached, calling it again does nothing."""
        self.vmask.detach()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def start_step(self, step: int, epoch: int = 0, num_steps: int | None = None) -> None:
        """Where in the run the next forward pass is, all counted from 0: it decides strengths, noise, temperature."""
        self._step, self._epoch = step, epoch
        self.vmask.start_step(step, num_steps)

    def strengths(self) -> dict[str, float]:
        """By what each term's mean is multiplied in the loss at this step; none is 0."""
        found = {}
        for name, spec in (("importance", self._importance), ("interaction", self._interaction)):
            if spec is not None:
                factor = 1.0 if self.at_full_strength else schedule_factor(spec.schedule, self._step)
                found[name] = spec.strength * factor
        # sum p ln p is minus the entropy, which is what is reported.
        found["vmask_entropy"] = -self.vmask.entropy_strength(self._epoch)
        return {name: strength for name, strength in found.items() if strength}

    @contextmanager
    def recording(self, batch: Batch, *, train: bool, measure: bool = False) -> Iterator[SafrRecording]:
        """While inside, gathers the terms of one forward pass on `batch`.

        Args:
            batch: what goes through the model.
            train: gather the terms that have a strength now, in the graph.
            measure: gather every term of the spec, for the record; of the gate too.

        Raises:
            SteeringError: rows hold several examples, and a reference formula would mix them.
        """
        self._refuse_packing(batch)
        wanted = set(self.strengths()) if train else set()
        if measure:
            wanted |= {"vmask"}
            if not train:
                specs = {"importance": self._importance, "interaction": self._interaction}
                there = {name for name, spec in specs.items() if spec is not None}
                wanted |= there - self._unmeasurable()
        by_gate = self._importance is not None and self._importance.weights == "vmask" and "importance" in wanted
        before = self._recording
        self.vmask.start(batch, self._step, wanted=by_gate or bool(wanted & {"vmask", "vmask_entropy"}))
        recording = SafrRecording(batch, wanted, self._spec, self.vmask)
        self._recording = recording
        try:
            yield recording
        finally:
            self._recording = before
            self._hidden.clear()
            self.vmask.stop()

    def _unmeasurable(self) -> set[str]:
        """Terms that cannot be measured without a gradient."""
        weights = None if self._importance is None else self._importance.weights
        return {"importance"} if weights == "gradient_x_input" else set()

    def _check_weights(self) -> None:
        if self._importance is not None and self._importance.weights == "vmask" and self.vmask.gate is None:
            raise SteeringError(
                "tokens are weighted by a VMASK gate, and there is none",
                where="importance.weights",
                got="vmask, with neither a gate in the model nor a `vmask` part",
                fix="add `vmask: {}` beside `importance`, or set `importance.weights: uniform`",
            )

    def _refuse_packing(self, batch: Batch) -> None:
        for name, spec in (("importance", self._importance), ("interaction", self._interaction)):
            if spec is not None and spec.variant == "reference" and batch.is_packed:
                raise SteeringError(
                    "the reference formula takes a row for one example, and these rows are packed",
                    where=f"{name}.variant",
                    got="reference",
                    fix=f"set `{name}.variant: masked`, or `data.packing: false`",
                )

    def _hook_importance(self) -> None:
        spec = self._importance
        if spec is None:
            return
        embed = self._anatomy.embed.module
        if spec.weights == "gradient_x_input":
            self._handles.append(embed.register_forward_hook(_eager(self._keep_embedding)))
        if spec.site == "embed":
            self._handles.append(embed.register_forward_hook(_eager(partial(self._at_output, EMBEDDING))))
            return
        sites = self._anatomy.block_out if spec.site == "block_out" else self._anatomy.ffn_keys
        for layer in select_layers(spec.layers, self._anatomy.num_layers):
            module = _at(sites, layer, spec.site).module
            if spec.site == "block_out":
                self._handles.append(module.register_forward_hook(_eager(partial(self._at_output, layer))))
            else:
                self._handles.append(module.register_forward_pre_hook(_eager(partial(self._at_input, layer))))

    def _hook_interaction(self) -> None:
        spec = self._interaction
        if spec is None:
            return
        for layer in select_layers(spec.layers, self._anatomy.num_layers):
            site = _at(self._anatomy.attention, layer, "attention")
            self._handles.append(tap(site, self._anatomy.family, _eager(partial(self._at_attention, site, layer))))
            if spec.form == "hidden":
                block = _at(self._anatomy.block_out, layer, "block_out").module
                entering = _eager(partial(self._keep_hidden, layer))
                self._handles.append(block.register_forward_pre_hook(entering, with_kwargs=True))

    def _keep_embedding(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        recording = self._active("importance")
        if recording is None:
            return None
        return recording.keep_embedding(output)

    def _at_output(self, layer: int, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        self._measure_importance(layer, first_tensor(output))

    def _at_input(self, layer: int, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._measure_importance(layer, inputs[0])

    def _measure_importance(self, layer: int, x: Tensor) -> None:
        spec = self._importance
        assert spec is not None
        recording = self._active("importance")
        deferred = spec.weights == "gradient_x_input"
        if recording is None:
            # Activation checkpointing must find here what the first pass saved: see `side_loss`.
            if x.requires_grad and not deferred and layer != EMBEDDING:
                from_saved(None, x, None)
            return
        recording.check_gradient(layer, "importance")
        if deferred:
            recording.deferred[layer] = x
            return
        weights = recording.token_weights() if spec.weights == "vmask" else None
        loss = recording.importance_loss(layer, x)
        # No model checkpoints its embedding.
        recording.add("importance", layer, loss(x, weights) if layer == EMBEDDING else from_saved(loss, x, weights))

    def _keep_hidden(self, layer: int, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._active("interaction") is not None:
            self._hidden[layer] = args[0] if args else kwargs["hidden_states"]

    def _at_attention(self, site: Site, layer: int, call: AttentionCall) -> None:
        spec = self._interaction
        assert spec is not None
        recording = self._active("interaction")
        if recording is None:
            return
        recording.check_gradient(layer, "interaction")
        self._proof.check(site, call, recording.batch.segment_ids)
        batch = recording.batch
        settings = {
            "scaling": call.scaling,
            "causal": call.causal,
            "variant": spec.variant,
            "softcap": call.softcap,
            "window": call.window,
            "drop_first_token": spec.drop_first_token,
        }

        def rows(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            if not batch.is_packed:
                return query, key, batch.token_mask
            query, mask = unpack(query.transpose(1, 2), batch.segment_ids)
            key, _ = unpack(key.transpose(1, 2), batch.segment_ids)
            return query.transpose(1, 2), key.transpose(1, 2), mask

        def by_rows(query: Tensor, key: Tensor) -> Tensor:
            return interaction_sum(*rows(query, key), **settings)  # type: ignore[arg-type]

        def by_vectors(hidden: Tensor, query: Tensor, key: Tensor) -> Tensor:
            vectors = unpack(hidden, batch.segment_ids)[0] if batch.is_packed else hidden
            return hidden_interaction_sum(vectors, *rows(query, key), **settings)  # type: ignore[arg-type]

        tensors = (call.query, call.key)
        loss: Callable[..., Tensor] = by_rows
        if spec.form == "hidden":
            tensors, loss = (self._hidden.pop(layer), *tensors), by_vectors  # type: ignore[assignment]
        in_graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        recording.add("interaction", layer, from_kept(loss, *tensors) if in_graph else loss(*tensors))

    def _active(self, name: str) -> SafrRecording | None:
        """The recording that wants a term; none while a backward pass computes activations again."""
        in_backward = torch._C._current_graph_task_id() != -1
        recording = self._recording
        return recording if recording is not None and not in_backward and name in recording.wanted else None


def _at(sites: tuple[Site, ...], layer: int, name: str) -> Site:
    for site in sites:
        if site.layer == layer:
            return site
    raise SteeringError(
        f"layer {layer} has no {name}",
        expected=f"one of the layers {[site.layer for site in sites]}",
        fix="list the layers that have it",
    )


def _eager(hook: Callable[..., Any]) -> Callable[..., Any]:
    # A hook between compiled pieces of a model runs in eager mode.
    eager: Callable[..., Any] = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
    return eager
