"""Loads `attention.cpp`, the fast path on CPUs. Without a compiler the torch version runs instead."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from steerline.steering.native import library

_SUFFIX = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_P, _I64, _INT, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
_ARGUMENTS = {
    "attend": (_P, _P, _P, _P, _P, _P, _P, _I64, _I64, _I64, _I64, _I64, _F, _P, _INT),
    "file": (_P, _P, _P, _P, _I64, _I64, _I64, _P, _P, _INT),
}


@functools.cache
def _functions() -> dict[tuple[str, torch.dtype], Callable[..., None]]:
    loaded = library(Path(__file__).with_name("attention.cpp"))
    functions: dict[tuple[str, torch.dtype], Callable[..., None]] = {}
    for name, arguments in _ARGUMENTS.items():
        for dtype, suffix in _SUFFIX.items():
            if loaded is not None:
                function = loaded[f"{name}_{suffix}"]
                function.argtypes = arguments
                function.restype = None
                functions[name, dtype] = function
    return functions


def handles(query: Tensor) -> bool:
    """Whether the compiled kernels take these queries, and keys and values like them."""
    return query.device.type == "cpu" and ("attend", query.dtype) in _functions()


def file(key: Tensor, value: Tensor, pages: Tensor, columns: Tensor, keys: Tensor, values: Tensor) -> None:
    """Files what tokens are attended by.

    Args:
        key: [N, K, 1, D].
        value: [N, K, 1, D].
        pages: each token's page [N].
        columns: its place in the page [N].
        keys: [P, K, D, PAGE], is written.
        values: [P, K, PAGE, D], is written.
    """
    key, value = key.contiguous(), value.contiguous()
    N, K, _, D = key.shape
    _functions()["file", key.dtype](
        key.data_ptr(),
        value.data_ptr(),
        pages.data_ptr(),
        columns.data_ptr(),
        *(N, K, D),
        keys.data_ptr(),
        values.data_ptr(),
        torch.get_num_threads(),
    )


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    table: Tensor,
    firsts: Tensor,
    ends: Tensor,
    places: Tensor,
    scale: float,
    out: Tensor,
) -> None:
    """Attends with some tokens of a pass.

    Args:
        query: [N, H, 1, D].
        keys: [P, K, D, PAGE].
        values: [P, K, PAGE, D].
        table: pages of each of these tokens' rows [R, M], int32.
        firsts: the first token of its row that each of them sees [R].
        ends: the place in its row behind the last that it sees [R].
        places: which of the N they are [R].
        scale: of the scores.
        out: [N, 1, H, D], is written at those places.
    """
    query = query.contiguous()
    _, H, _, D = query.shape
    R, M = table.shape
    _functions()["attend", query.dtype](
        query.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        table.data_ptr(),
        firsts.data_ptr(),
        ends.data_ptr(),
        places.data_ptr(),
        *(R, M, H, keys.shape[1], D, scale),
        out.data_ptr(),
        torch.get_num_threads(),
    )
