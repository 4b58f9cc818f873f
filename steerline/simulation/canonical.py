"""One spelling of plain data: the bytes that are hashed, stored and compared."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steerline.errors import SimulationError

ARRAY_KEY = "__array__"
"""The only key of a mapping that stands for an array."""


def canonical(value: Any) -> bytes:
    """Plain data as sorted JSON without spaces. Arrays are written as type, shape and base64 of their bytes.

    Raises:
        TypeError: something is neither JSON nor an array.
        ValueError: a number is not finite.
    """
    return _ENCODER.encode(value).encode()


def plain(content: bytes) -> Any:
    """What `canonical` wrote, arrays included."""
    return json.loads(content, object_hook=_array_from_json)


def digest(value: Any) -> str:
    """BLAKE2b-256 in hex of the canonical bytes, in which the hash of an array's bytes stands in their place.

    Raises:
        TypeError, ValueError: as `canonical` does.
    """
    return _blake2b(_DIGESTER.encode(value).encode())


def _array_to_json(value: Any) -> Any:
    return _with_array(value, lambda array: base64.b64encode(array.tobytes()).decode())


def _array_to_hash(value: Any) -> Any:
    # Large states are hashed each tick: from where they lie, not as text.
    return _with_array(value, lambda array: _blake2b(array.reshape(-1).view(np.uint8).data))


def _blake2b(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()


def _with_array(value: Any, content: Callable[[NDArray[Any]], str]) -> Any:
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        return {ARRAY_KEY: [little.dtype.str, list(little.shape), content(little)]}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not plain data")


def _array_from_json(value: dict[str, Any]) -> Any:
    if value.keys() != {ARRAY_KEY}:
        return value
    dtype, shape, content = value[ARRAY_KEY]
    return np.frombuffer(base64.b64decode(content), dtype=dtype).reshape(shape)


# ASCII, so that a lone surrogate in a model's text has bytes too.
_ENCODER, _DIGESTER = (
    json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=default)
    for default in (_array_to_json, _array_to_hash)
)


def check_plain(value: Any, where: str) -> None:
    """See that data come back from JSON as they were: no tuples, sets, objects, or keys that are no text.

    Raises:
        SimulationError: they would not.
    """
    match value:
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise _not_plain(key, f"{where}, a key")
                check_plain(item, f"{where}.{key}")
        case list():
            for number, item in enumerate(value):
                check_plain(item, f"{where}[{number}]")
        case None | bool() | int() | str() | np.ndarray():
            pass
        case float() if math.isfinite(value):
            pass
        case _:
            raise _not_plain(value, where)


def _not_plain(value: Any, where: str) -> SimulationError:
    return SimulationError(
        "a value is not plain data",
        where=where,
        got=f"{value!r:.80} ({type(value).__name__})",
        expected="text, finite numbers, true, false, null, lists, mappings with text keys, numpy arrays",
    )
