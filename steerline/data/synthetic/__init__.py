"""Generators of examples: the same size, seed and arguments give the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from steerline.data.synthetic.arithmetic import arithmetic
from steerline.data.synthetic.signal_noise import signal_noise

GENERATORS: Mapping[str, Callable[[int, int, Mapping[str, Any]], list[dict[str, Any]]]] = {
    "arithmetic": arithmetic,
    "signal_noise": signal_noise,
}
"""Generator name -> function of (size, seed, arguments)."""
