"""Which layers a mechanism acts in, and how its strength moves over training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from steerline.config.base import Spec

Layers = Literal["all", "early", "middle", "late"] | tuple[Annotated[int, Field(ge=0)], ...]
"""All layers, a third of them (early, middle, late), or an explicit list counted from 0."""


class StrengthSchedule(Spec):
    """How a strength moves over training: a factor that rises from 0 to 1, then stays or falls to 0."""

    warmup_steps: int = Field(default=0, ge=0)
    """Optimiser steps of linear rise from 0."""
    decay_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps of linear fall to 0 after the warm-up; none keeps it constant."""
