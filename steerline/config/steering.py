"""What acts inside a forward pass.

The same spec is a training objective, a sweep axis, a probe and a request's knob.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit
from steerline.config.layer_selection import Layers, StrengthSchedule
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.safr import ImportanceSpec, InteractionSpec, VmaskSpec

Phase = Literal["train", "eval", "both"]
"""When a mechanism acts: while training, while evaluating and generating, or always."""


class BoostSpec(Spec):
    """InfoSteer's intervention: the most neglected FFN keys are raised to `scale` times the mean.

    The edit is `keys + strength * (boost_keys(keys) - keys)`.
    """

    strength: float = Field(default=1.0, ge=0)
    """0 skips the edit and is bit-for-bit the plain model; 1 is the paper."""
    fraction: float = Field(default=0.01, gt=0, le=1)
    """Share p of the keys that are edited, per token: n = max(1, floor(fraction * F))."""
    scale: float = 1.0
    """The paper's alpha: edited keys become scale * mean."""
    select: Literal["value", "magnitude"] = "value"
    """Smallest by signed value (the paper's text), or by absolute value (its motive; recommended)."""
    mean: Literal["signed", "abs"] = "signed"
    """Mean of the keys, or of their absolute values (recommended)."""
    keep_sign: bool = False
    """Give an edited key the sign it had (recommended for gated FFNs)."""
    detach_mean: bool = False
    """Stop the gradient through the mean. The paper does not say; off keeps it."""
    control: Literal["none", "random_keys", "top_keys", "matched_noise"] = "none"
    """Placebo in place of the edit: the same edit on random keys or on the largest keys,
    or noise of the same norm on all keys."""
    control_seed: int = 0
    """Seed of the placebo's draws."""
    layers: Layers = "all"
    """Layers whose keys are edited."""
    active_in: Phase = "train"
    """The paper's evaluation appears to run without the edit, so it acts in training by default."""
    schedule: StrengthSchedule = StrengthSchedule()
    """How the strength moves over training."""


class EntropySpec(Spec):
    """InfoSteer's regulariser: `loss - strength * sum over layers of the mean key entropy`."""

    strength: float = 0.01
    """The paper's lambda; above 0 raises the entropy, below 0 lowers it (the negative control), 0 skips it."""
    norm: Literal["abs_l1", "relu", "square", "softmax"] = "abs_l1"
    """How signed keys become a distribution; abs_l1 reduces to the paper where keys are non-negative."""
    tokens: Literal["answer", "all"] = "answer"
    """Average over the tokens that carry the loss, or over all that are not padding."""
    layers: Layers = "all"
    """Layers whose entropy is counted."""
    schedule: StrengthSchedule = StrengthSchedule()
    """How the strength moves over training."""


class SteeringSpec(Spec):
    """The mechanisms attached to a model. None of them is the plain model."""

    boost: BoostSpec | None = None
    """InfoSteer's intervention on the FFN keys."""
    entropy: EntropySpec | None = None
    """InfoSteer's entropy regulariser (acts on the training loss only)."""
    residual_scale: ResidualScaleSpec | None = None
    """InfoRidge's scales of what each block adds to the residual stream."""
    importance: ImportanceSpec | None = None
    """SAFR's importance term (acts on the training loss only)."""
    interaction: InteractionSpec | None = None
    """SAFR's interaction term (acts on the training loss only)."""
    vmask: VmaskSpec | None = None
    """The gate that learns which tokens matter."""

    @model_validator(mode="after")
    def _layers_are_distinct(self) -> SteeringSpec:
        for name in ("boost", "entropy", "residual_scale", "importance", "interaction"):
            part: BoostSpec | EntropySpec | ResidualScaleSpec | ImportanceSpec | InteractionSpec | None
            part = getattr(self, name)
            if part is not None and isinstance(part.layers, tuple) and len(set(part.layers)) != len(part.layers):
                raise misfit("a layer is named twice", f"{name}.layers", expected="each layer once")
        return self
