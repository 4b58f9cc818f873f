"""The boost and its placebos as one step at a site: which keys, how strongly, what instead."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from steerline.config.steering import BoostSpec
from steerline.errors import SteeringError
from steerline.steering import native
from steerline.steering.draws import Place
from steerline.steering.infosteer import num_edited
from steerline.steering.ops import Picked, pick, replaced
from steerline.steering.recording import Selection, picked_before
from steerline.steering.rows import Edit, signs_at, statistics_dtype
from steerline.steering.schedule import schedule_factor

_num_edited = functools.cache(num_edited)  # exact fractions take longer than the edit of a token


@dataclass(frozen=True, eq=False)
class Conditions:
    """What decides an edit besides the activation. A recomputed forward pass must see those of the first."""

    phase: Literal["train", "eval"] = "train"
    step: int = 0
    row_strengths: Tensor | None = None
    row_scale_strengths: Tensor | None = None
    row_betas: Tensor | None = None
    selection: Selection | None = None
    replay: bool = False

    @functools.cached_property
    def some_row_acts(self) -> bool:
        """Whether one of `row_strengths` is not 0; asked at each site of a pass, so it is found once."""
        return self.row_strengths is not None and bool(self.row_strengths.any())

    def edits_like(self, other: Conditions) -> bool:
        """Whether the same activations are edited alike under both."""
        return (
            (self.phase, self.step) == (other.phase, other.step)
            and self.row_strengths is other.row_strengths
            and self.row_scale_strengths is other.row_scale_strengths
            and self.row_betas is other.row_betas
            and self.selection is other.selection
        )


class Boost:
    """`keys + strength * (boost_keys(keys) - keys)`, or the placebo that the spec names in its place."""

    def __init__(self, spec: BoostSpec, seed: int) -> None:
        self.spec = spec
        self._seed = seed
        self._edit = Edit(spec.scale, spec.mean == "abs", spec.keep_sign, spec.detach_mean)

    def strength(self, conditions: Conditions) -> float:
        """The strength of rows that have none of their own: 0 in a phase where the mechanism does not act."""
        if self.spec.active_in not in {"both", conditions.phase}:
            return 0.0
        return self.spec.strength * schedule_factor(self.spec.schedule, conditions.step)

    def apply(
        self, keys: Tensor, layer: int, conditions: Conditions, recomputing: bool, on_backward: Callable[[], None]
    ) -> Tensor:
        """The edited keys, same shape; the very same tensor when nothing acts.

        Args:
            keys: [B, T, F], or [B * T, F] with the rows of the batch one after the other.
            layer: the number of the layer.
            conditions: of the forward pass that this belongs to.
            recomputing: whether activation checkpointing runs the forward pass again.
            on_backward: called in the backward pass once the edit's saved tensors are there.
        """
        strengths = self._strengths(keys, conditions)
        if strengths is None:
            return keys
        if self._is_plain(keys, conditions):
            n = _num_edited(self.spec.fraction, keys.shape[-1])
            ranks = self.spec.select == "magnitude", self.spec.control == "top_keys"
            return native.boost(keys, n, *ranks, strengths, self._edit)
        place = Place(self._seed, self.spec.control_seed, conditions.step, layer)
        flat = keys.detach().reshape(-1, keys.shape[-1]).contiguous()
        picked = self._pick(keys, flat, place, conditions, recomputing)
        if self.spec.control != "matched_noise":
            return replaced(keys, picked, strengths, self._edit, on_backward)
        full = torch.ones(1, dtype=torch.float64)
        return _with_noise(keys, replaced(flat, picked, full, self._edit), strengths, place)

    def _is_plain(self, keys: Tensor, conditions: Conditions) -> bool:
        """Whether neither gradients, nor records, nor random draws are asked for: then one kernel does it all."""
        needs_grad = torch.is_grad_enabled() and keys.requires_grad
        drawn = self.spec.control in {"random_keys", "matched_noise"}
        return not needs_grad and not drawn and conditions.selection is None and native.handles(keys)

    def _strengths(self, keys: Tensor, conditions: Conditions) -> Tensor | None:
        """One strength for all rows [1], or one for each row of the batch [B], float64; none when nothing acts."""
        rows = conditions.row_strengths
        if rows is None:
            strength = self.strength(conditions)
            return None if strength == 0 else torch.tensor([strength], dtype=torch.float64)
        batch = keys.shape[:-1].numel() if keys.ndim == 2 else keys.shape[0]
        fits = batch % rows.numel() == 0 if keys.ndim == 2 else batch == rows.numel()
        if not fits:
            raise SteeringError(
                "the strengths do not fit the batch that went through the model",
                got=f"{rows.numel()} strengths, keys of shape {list(keys.shape)}",
                expected="one strength for each row of the batch",
            )
        return rows if conditions.some_row_acts else None

    def _pick(self, keys: Tensor, flat: Tensor, place: Place, conditions: Conditions, recomputing: bool) -> Picked:
        """The keys to edit."""
        n = _num_edited(self.spec.fraction, keys.shape[-1])
        selection = conditions.selection
        if selection is not None and (conditions.replay or recomputing):
            return picked_before(selection, place.layer, n, flat)
        if self.spec.control == "random_keys":
            indices = pick(place.uniform(keys), n, False).indices
            picked = Picked(indices, signs_at(flat, indices))
        else:
            picked = pick(flat, n, self.spec.select == "magnitude", self.spec.control == "top_keys")
        if selection is not None:
            if place.layer in selection.layers:
                raise SteeringError(
                    "a selection holds one forward pass, and a second one came",
                    where=f"layer {place.layer}",
                    fix="open `recording_selection()` once per forward pass",
                )
            selection.layers[place.layer] = picked
        return picked


def _with_noise(keys: Tensor, edited: Tensor, strengths: Tensor, place: Place) -> Tensor:
    """Keys plus Gaussian noise on all of them, whose L2 norm is, token by token, that of strength * (edited - keys).

    The noise is a constant in the backward pass. Rows of strength 0 keep their bits.
    """
    kind = statistics_dtype(keys)
    flat = keys.reshape(edited.shape)
    noise = place.normal(keys).to(kind)
    change = (edited.to(kind) - flat.detach().to(kind)).norm(dim=-1, keepdim=True)
    strength = strengths.to(keys.device, kind).repeat_interleave(flat.shape[0] // strengths.numel())[:, None]
    noise = strength * change * noise / noise.norm(dim=-1, keepdim=True)
    noisy: Tensor = torch.where(strength != 0, flat + noise.to(keys.dtype), flat)
    return noisy.view(keys.shape)
