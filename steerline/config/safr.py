"""SAFR: which tokens share neurons, and which may. Its loss: CE + importance + interaction, each with a strength."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from steerline.config.base import Spec
from steerline.config.layer_selection import Layers, StrengthSchedule


class ImportanceSpec(Spec):
    """SAFR's importance term: tokens' vectors at a site are driven apart, the important ones most.

    Interference of token i: `sqrt(sum over j != i of (x_i / |x_i| . x_j)^2)`.
    """

    strength: float = Field(default=1.0, ge=0)
    """The paper's lambda_imp; 0 skips the term."""
    variant: Literal["reference", "masked", "cosine"] = "masked"
    """The authors' formula, padding and all; the same over real tokens alone; or that with both vectors normalised."""
    site: Literal["embed", "block_out", "ffn_keys"] = "embed"
    """Whose vectors: the token embedding's (the paper), the blocks' outputs, or the FFN neurons."""
    layers: Layers = "all"
    """Layers whose vectors count; the embedding has none."""
    weights: Literal["uniform", "vmask", "gradient_x_input"] = "uniform"
    """Weight of each token in the mean: all alike, its gate's value, or |gradient x input| of the base loss."""
    center: bool = False
    """Subtract the mean over the sequence first: residuals of language models share a direction."""
    schedule: StrengthSchedule = StrengthSchedule()
    """How the strength moves over training."""


class InteractionSpec(Spec):
    """SAFR's interaction term: tokens that attend to each other are drawn together."""

    strength: float = Field(default=1.0, ge=0)
    """The paper's lambda_inter; 0 skips the term."""
    variant: Literal["reference", "masked"] = "masked"
    """The authors' mean over all L x L cells; or the sum over keys, averaged over real queries alone."""
    form: Literal["attention_rows", "hidden"] = "attention_rows"
    """Nearness of two tokens: overlap of their attention rows (the code), or |cosine| of their hidden vectors."""
    layers: Layers = "all"
    """Layers whose attention counts."""
    drop_first_token: bool = False
    """Leave out the first token as a key and renormalise: language models park attention there."""
    schedule: StrengthSchedule = StrengthSchedule()
    """How the strength moves over training."""


class VmaskSpec(Spec):
    """VMASK: a gate on the token embeddings that learns which tokens matter (Chen & Ji, EMNLP 2020).

    A model that has such a gate of its own keeps it; others are given one for training.
    """

    hidden_size: int = Field(default=1024, ge=1)
    """Width of the gate's hidden layer, where a gate is added."""
    apply: Literal["weight", "multiply"] = "weight"
    """What an added gate does: weigh tokens in the importance term alone, or multiply the embeddings too."""
    entropy_strength: float = Field(default=0.0, ge=0)
    """VMASK's beta at the first step; the term `beta * mean of sum p log p` keeps gates undecided. SAFR drops it."""
    entropy_decrement: float = Field(default=0.099, ge=0)
    """What beta loses per epoch, down to 0."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the Gumbel softmax at the first step."""
    final_temperature: float | None = Field(default=None, gt=0)
    """Temperature at the last step, reached geometrically; none keeps it constant."""
