"""InfoRidge's residual scaling: how strongly each block adds to the residual stream."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit
from steerline.config.layer_selection import Layers

Beta = Annotated[float, Field(ge=0)]


class ResidualScaleSpec(Spec):
    """`z_l = z_{l-1} + beta_l * block_l(z_{l-1})`: each block's whole contribution is multiplied by its beta.

    The beta that acts is `1 + strength * (beta - 1)`; where it is 1, the block is the plain one bit for bit.
    """

    betas: Beta | tuple[Beta, ...] = 1.0
    """One beta for all of `layers`, or one for each, in ascending order of the layers; 0 takes a block out. With
    `split`, the attention's."""
    ffn_betas: Beta | tuple[Beta, ...] | None = None
    """With `split`, the FFN's; none takes `betas`."""
    split: bool = False
    """Scale attention and FFN apart, each where it is added to the residual stream."""
    strength: float = Field(default=1.0, ge=0, le=1)
    """0 is the plain model, 1 the betas as they are written, and a straight line between."""
    layers: Layers = "all"
    """Layers whose blocks are scaled."""
    active_in: Literal["train", "eval", "both"] = "both"
    """When the scales act."""

    @model_validator(mode="after")
    def _betas_fit(self) -> ResidualScaleSpec:
        if self.ffn_betas is not None and not self.split:
            raise misfit(
                "the FFN has betas of its own, and blocks are scaled whole", "ffn_betas", fix="set `split: true`"
            )
        for name in ("betas", "ffn_betas"):
            betas = getattr(self, name)
            if isinstance(betas, tuple) and isinstance(self.layers, tuple) and len(betas) != len(self.layers):
                raise misfit(
                    f"{len(betas)} betas for {len(self.layers)} layers",
                    name,
                    "layers",
                    expected="one number, or one for each layer",
                )
        return self
