"""Recompute activations in the backward pass, in the one form that side losses survive."""

from __future__ import annotations

from transformers import PreTrainedModel

from steerline.config.training import ActivationCheckpointingSpec


def enable_activation_checkpointing(model: PreTrainedModel, spec: ActivationCheckpointingSpec | None) -> None:
    """Make each block of `model` recompute its activations; nothing for no spec.

    The reentrant form runs a block without a graph first, which drops the gradients of losses taken inside it; the spec
    refuses it, and it is not what this turns on.
    """
    if spec is not None:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
