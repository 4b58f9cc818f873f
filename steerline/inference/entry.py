"""A request while the client has it, and those who wait for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from steerline.inference.request import GenRequest, GenResult


class Ticket:
    """What one `ask_all` waits for: a result for each of its requests."""

    def __init__(self, size: int, on_end: Callable[[], None]) -> None:
        self.results: dict[int, GenResult] = {}
        self.open = size > 0
        """Whether anybody still waits."""
        self._size = size
        self._on_end = on_end
        self._fresh: list[int] = []
        self._error: BaseException | None = None
        self._wake: asyncio.Future[None] | None = None

    async def fresh(self) -> list[int]:
        """The indices of results that came since the last call, at least one; raises what `fail` was given."""
        if not self._fresh and self._error is None:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if self._error is not None:
            raise self._error
        fresh, self._fresh = self._fresh, []
        return fresh

    def settle(self, index: int, result: GenResult) -> None:
        """Files one result. After the last one the caller counts as running, before its task has had its turn."""
        if not self.open:
            return
        self.results[index] = result
        self._fresh.append(index)
        if len(self.results) == self._size:
            self.close()
        self._awake()

    def fail(self, error: BaseException) -> None:
        """Raises an error where the results are awaited."""
        if self.open:
            self._error = error
            self.close()
            self._awake()

    def close(self) -> None:
        """Nobody waits any longer."""
        if self.open:
            self.open = False
            self._on_end()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


@dataclass(slots=True, eq=False)
class Entry:
    """One request in a lane; identical ones at temperature 0 are one entry that several wait for."""

    request: GenRequest
    waiters: list[tuple[Ticket, int]] = field(default_factory=list)
    waiting: bool = False
    """In the queue, and not yet taken."""
    attempts: int = 0

    @property
    def cost(self) -> int:
        """Tokens."""
        return self.request.cost

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits."""
        return any(ticket.open for ticket, _ in self.waiters)

    def settle(self, result: GenResult) -> None:
        """Gives the answer to all who wait; all but the first have it for nothing."""
        for place, (ticket, index) in enumerate(self.waiters):
            ticket.settle(index, replace(result, coalesced=True) if place else result)

    def fail(self, error: BaseException) -> None:
        """Raises an error for all who wait."""
        for ticket, _ in self.waiters:
            ticket.fail(error)
