"""Compiles and loads `kernels.cpp`, the fast path on CPUs. Without a compiler the plain torch version runs instead.

Measured choice (benchmarks/steering_kernels.py): one C++ file behind a plain C interface builds in about a second,
once per machine, and needs only a compiler. A torch C++ extension takes tens of seconds to build, and inductor compiles
again in each process.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from steerline.data.packaged import cache_dir
from steerline.steering.rows import NORMS, Edit, EntropyRows, Norm, ReplacedRows

_LOG = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("kernels.cpp")
# Neither flag changes a value: they say that nobody reads errno or the floating-point exception flags.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
_SUFFIX = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

_P, _I64, _INT, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
_ARGUMENTS: dict[str, tuple[type, ...]] = {
    "select": (_P, _I64, _I64, _I64, _INT, _INT, _P, _INT),
    "replace": (_P, _P, _P, _P, _I64, _I64, _I64, _I64, _F, _INT, _INT, _P, _P, _INT),
    "boost": (_P, _P, _I64, _I64, _I64, _I64, _INT, _INT, _F, _INT, _INT, _P, _INT),
    "replace_backward": (_P, _P, _P, _P, _P, _P, _I64, _I64, _I64, _I64, _F, _INT, _INT, _INT, _P, _INT),
    "entropy": (_INT, _P, _P, _I64, _I64, _P, _P, _P, _INT),
    "entropy_backward": (_INT, _P, _P, _P, _P, _P, _P, _I64, _I64, _P, _INT),
}


@functools.cache
def load() -> Mapping[str, Callable[..., None]] | None:
    """The compiled kernels, built on first use and kept in the cache folder; none where they cannot be built.

    Safe when several processes build at once: each writes a file of its own and renames it into place.
    """
    loaded = library(_SOURCE)
    if loaded is None:
        return None
    functions: dict[str, Callable[..., None]] = {}
    for name, arguments in _ARGUMENTS.items():
        for suffix in _SUFFIX.values():
            function = loaded[f"{name}_{suffix}"]
            function.argtypes = arguments
            function.restype = None
            functions[f"{name}_{suffix}"] = function
    return functions


def library(source: Path) -> ctypes.CDLL | None:
    """A C++ file as a library, built on first use and kept in the cache folder; none where it cannot be built."""
    try:
        return ctypes.CDLL(str(build(source)))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        _LOG.warning(
            "the fast CPU kernels are off (same results, slower %s); `steerline doctor` tells how to get a "
            "C++ compiler with OpenMP: %s",
            source.parent.name,
            detail,
        )
        return None


def handles(keys: Tensor) -> bool:
    """Whether the compiled kernels take these keys."""
    return keys.device.type == "cpu" and keys.dtype in _SUFFIX and keys.numel() > 0 and load() is not None


def build(source: Path = _SOURCE) -> Path:
    """The library of a C++ file's kernels for this machine, in the cache folder; compiled now unless it is there.

    Raises:
        OSError: there is no compiler, or the folder cannot be written.
        subprocess.CalledProcessError: the compiler refuses; `stderr` says why.
    """
    compiler = os.environ.get("CXX", "g++")
    # What the compiler says about itself and this machine's CPU: a cache shared by unlike machines stays right.
    target = _run(compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull)
    identity = hashlib.sha256("\0".join((source.read_text(), target, compiler, *_FLAGS)).encode()).hexdigest()
    folder = cache_dir() / "kernels"
    built = folder / f"{source.parent.name}-{identity[:16]}.so"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / built.name
            _run(compiler, *_FLAGS, str(source), "-o", str(fresh))
            fresh.replace(built)
    return built


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _call(name: str, dtype: torch.dtype, *arguments: object) -> None:
    functions = load()
    assert functions is not None
    plain = [argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments]
    functions[f"{name}_{_SUFFIX[dtype]}"](*plain, torch.get_num_threads())


@functools.cache
def _boosts() -> Mapping[torch.dtype, Callable[..., None]]:
    functions = load()
    assert functions is not None
    return {dtype: functions[f"boost_{suffix}"] for dtype, suffix in _SUFFIX.items()}


def select(keys: Tensor, n: int, magnitude: bool, largest: bool) -> Tensor:
    """See `rows.select`."""
    N, F = keys.shape
    indices = torch.empty(N, n, dtype=torch.int32)
    _call("select", keys.dtype, keys, N, F, n, magnitude, largest, indices)
    return indices


def replace(keys: Tensor, indices: Tensor, signs: Tensor, strengths: Tensor, edit: Edit) -> ReplacedRows:
    """See `rows.replace`."""
    (N, F), n = keys.shape, indices.shape[1]
    out = ReplacedRows(torch.empty_like(keys), torch.empty(N))
    sizes = (N, F, n, N // strengths.numel())
    _call("replace", keys.dtype, keys, indices, signs, strengths, *sizes, *edit[:3], *out)
    return out


def boost(keys: Tensor, n: int, magnitude: bool, largest: bool, strengths: Tensor, edit: Edit) -> Tensor:
    """`select` and `replace` at once, on keys [..., F], for passes without a gradient."""
    keys = keys.contiguous()
    F = keys.shape[-1]
    N = keys.numel() // F
    out = torch.empty_like(keys)
    sizes = (N, F, n, N // strengths.numel())
    # Without `_call`: a step of the engine comes by here at each layer, and the edit of a few tokens takes as long.
    function = _boosts()[keys.dtype]
    places = keys.data_ptr(), strengths.data_ptr()
    function(*places, *sizes, magnitude, largest, *edit[:3], out.data_ptr(), torch.get_num_threads())
    return out


def replace_backward(
    grad: Tensor, edited: Tensor, indices: Tensor, signs: Tensor, means: Tensor, strengths: Tensor, edit: Edit
) -> Tensor:
    """See `rows.replace_backward`."""
    (N, F), n = grad.shape, indices.shape[1]
    out = torch.empty_like(grad)
    sizes = (N, F, n, N // strengths.numel())
    _call("replace_backward", grad.dtype, grad, edited, indices, signs, means, strengths, *sizes, *edit, out)
    return out


def entropy(keys: Tensor, weights: Tensor, norm: Norm) -> EntropyRows:
    """See `rows.entropy`."""
    N, F = keys.shape
    out = EntropyRows(torch.empty(N), torch.empty(N), torch.empty(N))
    _call("entropy", keys.dtype, NORMS.index(norm), keys, weights, N, F, *out)
    return out


def entropy_backward(keys: Tensor, grad: Tensor | None, weights: Tensor, rows: EntropyRows, norm: Norm) -> Tensor:
    """See `rows.entropy_backward`."""
    N, F = keys.shape
    out = torch.empty_like(keys)
    _call("entropy_backward", keys.dtype, NORMS.index(norm), keys, grad, weights, *rows, N, F, out)
    return out
