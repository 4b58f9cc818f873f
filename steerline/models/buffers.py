"""Buffers that must keep their precision when a model's weights are cast."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Whatever happens to the model inside, its unsaved floating-point buffers come out as they went in.

    `model.to(torch.bfloat16)`, and DeepSpeed when it casts a model to bf16, cast the rotary frequencies too, which
    Transformers computes and keeps in fp32. Such a model computes something else than the same weights loaded from
    disk: on a tiny Llama logits moved by 0.07. These buffers are not part of a state dict, so no checkpoint restores them.
    """
    names = _unsaved(model)
    kept = {name: buffer.clone() for name, buffer in model.named_buffers() if name in names}
    yield
    for name, before in kept.items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        device = module.get_buffer(leaf).device
        module.register_buffer(leaf, before.to(device), persistent=False)


def _unsaved(model: nn.Module) -> set[str]:
    saved = model.state_dict().keys()
    return {name for name, buffer in model.named_buffers() if name not in saved and buffer.is_floating_point()}
