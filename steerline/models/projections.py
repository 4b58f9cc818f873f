"""Linear maps as models write them: `nn.Linear`, GPT-2's `Conv1D`, and either of them under a LoRA adapter."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from steerline.errors import AnatomyError


def is_projection(module: nn.Module) -> bool:
    """Whether `module` is a linear map [..., in] -> [..., out]."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(unwrapped(module), nn.Linear | Conv1D)


def unwrapped(module: nn.Module) -> nn.Module:
    """The layer itself, without a PEFT adapter or PEFT's trainable copy around it."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    if isinstance(module, BaseTunerLayer):
        base: nn.Module = module.get_base_layer()
        return base
    if isinstance(module, ModulesToSaveWrapper):
        original: nn.Module = module.original_module
        return original
    return module


def projection_shape(module: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear map. Read from its declared sizes: under ZeRO-3 the weight itself is empty.

    Raises:
        AnatomyError: `module` is not a linear map.
    """
    from transformers.pytorch_utils import Conv1D

    layer = unwrapped(module)
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, Conv1D):
        return layer.nx, layer.nf
    raise AnatomyError(
        "the site is not a linear map", got=type(module).__name__, expected="nn.Linear or Conv1D, or an adapted one"
    )


def projections(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every linear map below `module` with its path, in the order of registration; an adapter's own are left out."""
    if is_projection(module):
        yield path, module
        return
    for name, child in module.named_children():
        yield from projections(child, f"{path}.{name}" if path else name)
