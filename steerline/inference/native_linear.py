"""Loads `linear.cpp`: linear maps of few tokens on CPUs, by weights that lie as the kernel reads them."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from steerline.steering.native import library

PANEL = 48  # outputs, as in `linear.cpp`
_SUFFIX = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_DEPTH = {torch.float32: 1, torch.bfloat16: 2}  # inputs that the kernel takes at once
_P, _I64, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_ARGUMENTS = (_P, _P, _P, _P, _I64, _I64, _I64, _INT)


@functools.cache
def _functions() -> dict[torch.dtype, Callable[..., None]]:
    loaded = library(Path(__file__).with_name("linear.cpp"))
    functions: dict[torch.dtype, Callable[..., None]] = {}
    for dtype, suffix in _SUFFIX.items():
        if loaded is not None:
            function = loaded[f"linear_{suffix}"]
            function.argtypes = _ARGUMENTS
            function.restype = None
            functions[dtype] = function
    return functions


def handles(weight: Tensor) -> bool:
    """Whether the compiled kernel takes this weight [N, K]."""
    return weight.device.type == "cpu" and weight.dtype in _functions() and weight.shape[1] % _DEPTH[weight.dtype] == 0


def in_panels(weight: Tensor) -> Tensor:
    """A weight [N, K] as panels [P, K / U, PANEL, U], the last one filled up with zeros.

    U inputs lie side by side: 1 in float32, 2 in bfloat16.
    """
    (N, K), U = weight.shape, _DEPTH[weight.dtype]
    P = -(-N // PANEL)
    filled = weight.new_zeros(P * PANEL, K)
    filled[:N] = weight
    return filled.view(P, PANEL, K // U, U).transpose(1, 2).contiguous()


def rows(panels: Tensor, numbers: Tensor) -> Tensor:
    """Some rows [..., K] of the weight."""
    return panels[numbers // PANEL, :, numbers % PANEL].flatten(-2)


def linear(x: Tensor, panels: Tensor, bias: Tensor | None, num_outputs: int) -> Tensor:
    """`x @ weight.T + bias` for x [..., K].

    Args:
        x: in the weight's precision.
        panels: of the weight.
        bias: float32, as long as the panels have outputs.
        num_outputs: N.
    """
    x = x.contiguous()
    K = x.shape[-1]
    out = x.new_empty(*x.shape[:-1], num_outputs)
    _functions()[x.dtype](
        x.data_ptr(),
        panels.data_ptr(),
        None if bias is None else bias.data_ptr(),
        out.data_ptr(),
        *(x.numel() // K, K, num_outputs),
        torch.get_num_threads(),
    )
    return out
