"""How many calls a backend may have at once."""

from __future__ import annotations

from steerline.inference.request import BackendLimits

_FIRST = 4.0


class Concurrency:
    """The backend's limit; for an adaptive one, what additive increase and multiplicative decrease make of it.

    A success adds `1 / limit`, so that a window of successes adds 1. A busy answer halves the limit, once for all calls
    that were under way at that time: they tell of the same congestion.
    """

    def __init__(self, limits: BackendLimits) -> None:
        self._most = limits.in_flight
        self._adaptive = limits.adaptive
        self._limit = min(_FIRST, limits.in_flight) if limits.adaptive else float(limits.in_flight)
        self._lowered_at = float("-inf")

    @property
    def limit(self) -> int:
        """Calls at once, at least 1."""
        return int(self._limit)

    def succeeded(self) -> None:
        """A call was answered."""
        if self._adaptive:
            self._limit = min(self._most, self._limit + 1 / self._limit)

    def was_busy(self, started: float, now: float) -> None:
        """A call that started at `started` was turned away, in seconds of the loop's clock."""
        if self._adaptive and started > self._lowered_at:
            self._limit = max(1.0, self._limit / 2)
            self._lowered_at = now
