"""One spelling of plain data: the bytes that are hashed, stored and compared."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import numpy as np

_ARRAY = "__array__"


def canonical(value: Any) -> bytes:
    """Plain data as sorted JSON without spaces. Arrays are written as type, shape and base64 of their bytes.

    Raises:
        TypeError: something is neither JSON nor an array.
        ValueError: a number is not finite.
    """
    # ASCII, so that a lone surrogate in a model's text has bytes too.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_array_to_json)
    return text.encode()


def plain(content: bytes) -> Any:
    """What `canonical` wrote, arrays included."""
    return json.loads(content, object_hook=_array_from_json)


def digest(value: Any) -> str:
    """BLAKE2b-256 in hex of the canonical bytes."""
    return hashlib.blake2b(canonical(value), digest_size=32).hexdigest()


def _array_to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        return {_ARRAY: [little.dtype.str, list(little.shape), base64.b64encode(little.tobytes()).decode()]}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not plain data")


def _array_from_json(value: dict[str, Any]) -> Any:
    if value.keys() != {_ARRAY}:
        return value
    dtype, shape, content = value[_ARRAY]
    return np.frombuffer(base64.b64decode(content), dtype=dtype).reshape(shape)
