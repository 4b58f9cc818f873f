"""Puts steering into a model and takes it out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steerline.config.steering import EntropySpec, SteeringSpec
from steerline.errors import SteeringError
from steerline.models.anatomy import Anatomy, Site
from steerline.models.anatomy import anatomy as find_anatomy
from steerline.steering.boost import Boost, Conditions
from steerline.steering.layers import select_layers
from steerline.steering.ops import entropy_rows, entropy_side_loss
from steerline.steering.recording import Recording, Selection
from steerline.steering.residual_scale import ResidualScale, checked_row_betas
from steerline.steering.safr_sites import SafrSites
from steerline.steering.schedule import schedule_factor


def attach(model: nn.Module, spec: SteeringSpec, *, anatomy: Anatomy | None = None, seed: int = 0) -> Attachment:
    """Hooks the mechanisms of `spec` onto `model`, until `detach()` or the end of a `with` block.

    InfoSteer acts on the FFN keys: [B, T, F], or [B * T, F] where a family flattens them. At each site the boost edits
    the keys first; the entropy is that of the keys that multiply the value projection, after the edit. Residual scales
    act on what a block, or its attention and FFN, return. SAFR's terms, in `Attachment.safr`, come after all of these.
    Several attachments on one model act in the order in which they were attached and detach in any order. Attach before
    `torch.compile`: compiled code does not notice hooks that come later; at each site it falls back to eager.

    Args:
        model: a Transformers model, alone or wrapped (LoRA, an objective).
        spec: the mechanisms; none of them is the plain model.
        anatomy: the model's sites, if they were named by hand.
        seed: of the run; placebos and gates draw from it.

    Raises:
        AnatomyError: the sites cannot be found.
        SteeringError: the spec names layers that the model does not have, or whose attention cannot be captured.
    """
    return Attachment(model, find_anatomy(model) if anatomy is None else anatomy, spec, seed)


class Attachment:
    """The mechanisms at their sites. Owns its hooks, and removes exactly those.

    It may be used under non-reentrant activation checkpointing: a forward pass that is computed again in the backward
    pass sees the conditions of the first and records nothing.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy, spec: SteeringSpec, seed: int) -> None:
        self.spec = spec
        L = anatomy.num_layers
        self._boost = None if spec.boost is None else Boost(spec.boost, seed)
        self._boost_layers = () if spec.boost is None else select_layers(spec.boost.layers, L)
        # The entropy spec's readings without its loss serve `measure=True` when there is no side loss.
        self._entropy = spec.entropy or EntropySpec(strength=0)
        self._entropy_layers = () if self._entropy.strength == 0 else select_layers(self._entropy.layers, L)
        self._sites: dict[int, Site] = {site.layer: site for site in anatomy.ffn_keys if site.layer is not None}
        self._now = Conditions()
        self._recording: Recording | None = None
        self._measure = False
        self._at_full_strength = False
        self._last_forward = self._now
        self._recomputed: dict[int, Conditions] = {}
        self._handles: list[RemovableHandle] = []
        hooked = sorted({*self._boost_layers, *self._entropy_layers})
        self._handles = self._hook(hooked)
        self._scale: ResidualScale | None = None
        try:
            if spec.residual_scale is not None:
                self._scale = ResidualScale(model, anatomy, spec.residual_scale, lambda: self._now)
            # Last, so that vectors and attention are those of the steered model.
            self.safr = SafrSites(model, anatomy, spec, seed)
        except BaseException:
            self._unhook()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.detach()

    def detach(self) -> None:
        """Removes this attachment's hooks; once detached, calling it again does nothing."""
        self.safr.detach()
        self._unhook()

    def _unhook(self) -> None:
        if self._scale is not None:
            self._scale.detach()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def phase(self) -> Literal["train", "eval"]:
        """Which of the two the model is in: decides, with `active_in`, whether the boost acts."""
        return self._now.phase

    @phase.setter
    def phase(self, phase: Literal["train", "eval"]) -> None:
        if phase not in {"train", "eval"}:
            raise SteeringError("no such phase", got=phase, expected="train, eval")
        self._now = replace(self._now, phase=phase)

    @property
    def step(self) -> int:
        """The optimiser step, from 0: what schedules and placebo draws go by."""
        return self._now.step

    @step.setter
    def step(self, step: int) -> None:
        self._now = replace(self._now, step=step)
        self.safr.start_step(step)

    def start_step(self, step: int, epoch: int = 0, num_steps: int | None = None) -> None:
        """Where in the run the next forward pass is: optimiser step and epoch, counted from 0, of how many steps."""
        self.step = step
        self.safr.start_step(step, epoch, num_steps)

    @property
    def boost_strength(self) -> float:
        """The boost's strength in this phase and at this step; 0 without a boost."""
        return 0.0 if self._boost is None else self._boost.strength(self._now)

    @property
    def entropy_strength(self) -> float:
        """The regulariser's strength (the paper's lambda) at this step, for the objective; 0 without one."""
        factor = 1.0 if self._at_full_strength else schedule_factor(self._entropy.schedule, self._now.step)
        return self._entropy.strength * factor

    @contextmanager
    def at_full_strength(self) -> Iterator[None]:
        """While inside, schedules do not weaken a side loss, so that every one of the spec has a gradient."""
        self._at_full_strength = self.safr.at_full_strength = True
        try:
            yield
        finally:
            self._at_full_strength = self.safr.at_full_strength = False

    @contextmanager
    def row_strengths(self, boost: Tensor | None = None, residual_scale: Tensor | None = None) -> Iterator[None]:
        """While inside, each row of the batch has its own strength [B], in either phase; none changes nothing.

        Rows of strength 0 keep the bits of the plain model, whatever their neighbours have.

        Args:
            boost: strengths of the boost.
            residual_scale: strengths of the residual scales, in place of the spec's.

        Raises:
            SteeringError: the mechanism is not attached, or the strengths are not B finite numbers from 0.
        """
        given = {}
        if boost is not None:
            given["row_strengths"] = _checked_strengths(boost, "boost", self._boost)
        if residual_scale is not None:
            given["row_scale_strengths"] = _checked_strengths(residual_scale, "residual_scale", self._scale)
        with self._under(replace(self._now, **given)):  # type: ignore[arg-type]
            yield

    @contextmanager
    def row_betas(self, betas: Tensor) -> Iterator[None]:
        """While inside, each row of the batch has residual scales of its own, in either phase; gradients reach them.

        Rows whose betas are all 1 keep the bits of the plain model. `row_strengths` weakens these betas too.

        Args:
            betas: [B, N] for the N layers of the spec, in ascending order; with `split` [B, 2, N]: attention, FFN.

        Raises:
            SteeringError: no residual scales are attached, or the betas are not such numbers, from 0.
        """
        if self._scale is None:
            raise _not_attached("betas were given", "residual_scale")
        with self._under(replace(self._now, row_betas=checked_row_betas(betas, self._scale.shape))):
            yield

    @contextmanager
    def recording_selection(self) -> Iterator[Selection]:
        """While inside, files which keys the boost picks in one forward pass."""
        selection = Selection()
        with self._under(replace(self._now, selection=selection, replay=False)):
            yield selection

    @contextmanager
    def replaying(self, selection: Selection) -> Iterator[None]:
        """While inside, the boost edits the keys of `selection` in place of those that it would pick.

        Picking by rank is a step function: rounding may swap two ranks, or turn the sign that an edited key keeps.
        With picks and signs replayed the edit is continuous, so computations that differ by rounding can be compared.
        """
        with self._under(replace(self._now, selection=selection, replay=True)):
            yield

    @contextmanager
    def recording(self, target_mask: Tensor, token_mask: Tensor, measure: bool = False) -> Iterator[Recording]:
        """While inside, gathers the key entropies of one forward pass.

        Args:
            target_mask: [B, T] bool, the tokens that carry the loss.
            token_mask: [B, T] bool, the tokens that are not padding.
            measure: also measure every layer, without gradient; without an entropy spec, by the spec's defaults.
        """
        tokens = target_mask if self._entropy.tokens == "answer" else token_mask
        before = self._recording, self._measure
        recording = Recording(self._entropy_layers, tokens, self._entropy.norm)
        hooked = {*self._boost_layers, *self._entropy_layers}
        extra = self._hook([layer for layer in self._sites if layer not in hooked]) if measure else []
        self._recording, self._measure = recording, measure
        try:
            yield recording
        finally:
            self._recording, self._measure = before
            for handle in extra:
                handle.remove()

    @contextmanager
    def _under(self, conditions: Conditions) -> Iterator[None]:
        before = self._now
        self._now = conditions
        try:
            yield
        finally:
            # Phase and step may have been set inside; they stay.
            self._now = replace(before, phase=self._now.phase, step=self._now.step)

    def _hook(self, layers: list[int]) -> list[RemovableHandle]:
        return [self._sites[layer].module.register_forward_pre_hook(self._at_site(layer)) for layer in layers]

    def _at_site(self, layer: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        def steer(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            keys: Tensor = inputs[0]
            steered = self._observed(self._boosted(keys, layer), layer)
            return None if steered is keys else (steered, *inputs[1:])

        eager: Callable[..., tuple[Any, ...] | None] = torch.compiler.disable(steer)  # type: ignore[no-untyped-call]
        return eager

    def _boosted(self, keys: Tensor, layer: int) -> Tensor:
        if self._boost is None or layer not in self._boost_layers:
            return keys
        recomputing = _in_backward()
        if recomputing:
            conditions = self._recomputed[layer] = self._last_forward
        else:
            conditions = self._last_forward = self._now
            self._recomputed.pop(layer, None)
        return self._boost.apply(keys, layer, conditions, recomputing, lambda: self._check(layer, conditions))

    def _check(self, layer: int, first: Conditions) -> None:
        """Refuses a gradient whose keys were computed again under other conditions than the first time."""
        again = self._recomputed.pop(layer, first)
        if not again.edits_like(first):
            raise SteeringError(
                "activation checkpointing computed steered keys again under other conditions than the first time",
                where=f"layer {layer}",
                got="a forward pass with another phase, step, selection or row strengths came before the backward pass",
                fix="run the backward pass before the next forward pass",
            )

    def _observed(self, keys: Tensor, layer: int) -> Tensor:
        recording = None if _in_backward() else self._recording
        norm = self._entropy.norm
        if layer in self._entropy_layers and (recording is not None or keys.requires_grad):
            # Without a recording this is the identity. It is there all the same: what a layer saves for its backward
            # pass must not depend on the context, which is gone when activation checkpointing computes it again.
            weights = None if recording is None else recording.token_weights(layer, keys)
            keys, total = entropy_side_loss(keys, weights, norm)
            if recording is not None:
                recording.add_loss(layer, total)
        elif recording is not None and self._measure:
            weights = recording.token_weights(layer, keys)
            flat = keys.detach().reshape(-1, keys.shape[-1]).contiguous()
            recording.measured[layer] = entropy_rows(flat, weights, norm)[0] @ weights
        return keys


def _in_backward() -> bool:
    """Whether autograd is running a backward pass: a forward pass in there is a checkpoint's recomputation."""
    return torch._C._current_graph_task_id() != -1


def _checked_strengths(strengths: Tensor, name: str, mechanism: Boost | ResidualScale | None) -> Tensor:
    """Strengths for each row [B], float64 on the CPU."""
    if mechanism is None:
        raise _not_attached("strengths were given", name)
    if strengths.ndim != 1 or strengths.numel() == 0 or not bool((strengths.isfinite() & (strengths >= 0)).all()):
        raise SteeringError("bad strengths", got=strengths.tolist(), expected="[B], finite, none below 0")
    return strengths.detach().to("cpu", torch.float64)


def _not_attached(what: str, name: str) -> SteeringError:
    return SteeringError(f"{what}, but no {name} is attached", fix=f"add `{name}` to the spec")
