"""Random numbers that are a function of their place: seed, tick, stream, entity and draw. There is no state to save.

`u = BLAKE2b(seed, tick, stream, entity, draw)`, so that neither the order in which agents are asked, nor the number of
workers, nor a resume changes a draw. Vectors come from numpy's Philox, keyed the same way.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CounterRng:
    """Draws of one place in a simulation.

    Every method takes the name of a stream (what the draw is for), the entity it is for (an agent, a pair) and a number
    that tells several draws apart. The same place gives the same draw, however often it is asked for.
    """

    seed: int
    tick: int = 0
    scope: str = ""
    """Where the draws belong: the engine gives each of its parts, and each policy's agent, a scope of its own."""

    def at(self, tick: int) -> CounterRng:
        """The draws of another tick."""
        return CounterRng(self.seed, tick, self.scope)

    def within(self, scope: str) -> CounterRng:
        """The draws of a part, apart from all others."""
        return CounterRng(self.seed, self.tick, f"{self.scope}/{scope}")

    def uniform(self, stream: str, entity: str = "", draw: int = 0) -> float:
        """A number in [0, 1), of 53 bits."""
        return (int.from_bytes(self._hash(stream, entity, draw)[:8], "little") >> 11) * 2.0**-53

    def integer(self, low: int, high: int, stream: str, entity: str = "", draw: int = 0) -> int:
        """A whole number from `low` to `high`, both included."""
        # 128 bits make the bias of the remainder smaller than 2^-64 for any range of 64 bits.
        return low + int.from_bytes(self._hash(stream, entity, draw)[:16], "little") % (high - low + 1)

    def choice(self, items: Sequence[T], stream: str, entity: str = "", draw: int = 0) -> T:
        """One of the items, all equally likely."""
        return items[self.integer(0, len(items) - 1, stream, entity, draw)]

    def shuffled(self, items: Sequence[T], stream: str, entity: str = "") -> list[T]:
        """The items in random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.integer(0, last, stream, entity, last)
            order[last], order[other] = order[other], order[last]
        return order

    def normal(self, stream: str, entity: str = "", draw: int = 0) -> float:
        """A standard normal number (Box and Muller)."""
        content = self._hash(stream, entity, draw)
        first, second = (int.from_bytes(content[n : n + 8], "little") >> 11 for n in (0, 8))
        return math.sqrt(-2.0 * math.log((first + 1) * 2.0**-53)) * math.cos(2.0 * math.pi * second * 2.0**-53)

    def generator(self, stream: str, entity: str = "") -> np.random.Generator:
        """A generator of vectors, always at its beginning."""
        key = int.from_bytes(self._hash(stream, entity, 0)[:16], "little")
        return np.random.Generator(np.random.Philox(key=key))

    def _hash(self, stream: str, entity: str, draw: int) -> bytes:
        # Lengths keep ("ab", "c") and ("a", "bc") apart.
        parts = (self.scope, stream, entity)
        text = f"{self.seed},{self.tick},{draw},{','.join(str(len(part)) for part in parts)}:{''.join(parts)}"
        return hashlib.blake2b(text.encode(), digest_size=32).digest()
