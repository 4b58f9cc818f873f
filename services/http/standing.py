"""Streams end when the key that opened them does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

from services.http.access import Principal

T = TypeVar("T")

CHECK_EVERY_S = 2.0
"""Seconds after which a revoked key's stream has ended, at most."""


async def while_good(source: AsyncGenerator[T, None], caller: Principal) -> AsyncGenerator[T, None]:
    """The same pieces, for as long as the caller's key is good.

    Args:
        source: is closed with this generator.
        caller: whose key is looked at every few seconds, whether or not anything comes.

    Raises:
        ApiError: 401; the key was revoked, or has expired.
    """
    async with aclosing(source):
        watched = _Watched(source, caller)
        try:
            async for piece in watched:
                yield piece
        finally:
            watched.stop()


class _Watched(Generic[T]):
    """Pieces, and beside them one timer, which costs a piece nothing and interrupts whoever waits for the next."""

    def __init__(self, source: AsyncGenerator[T, None], caller: Principal) -> None:
        self._source = source
        self._caller = caller
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Timeout | None = None
        self._failure: Exception | None = None
        self._timer = self._loop.call_later(CHECK_EVERY_S, self._look)

    def __aiter__(self) -> _Watched[T]:
        return self

    async def __anext__(self) -> T:
        try:
            if self._failure is None:
                # It has no end of its own, but is brought to one.
                async with asyncio.timeout(None) as self._waiting:
                    return await anext(self._source)
        except TimeoutError:
            if self._failure is None:
                raise
        finally:
            self._waiting = None
        raise self._failure

    def stop(self) -> None:
        """Looks at the key no more."""
        self._timer.cancel()

    def _look(self) -> None:
        try:
            self._caller.confirm()
        except Exception as error:  # noqa: BLE001  whatever it is, it is raised where the pieces are read
            self._failure = error
            if self._waiting is not None:
                self._waiting.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(CHECK_EVERY_S, self._look)
