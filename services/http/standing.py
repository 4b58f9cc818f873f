"""Streams end when the key that opened them does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

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
    loop = asyncio.get_running_loop()
    check_at = loop.time() + CHECK_EVERY_S
    async with aclosing(source):
        coming = asyncio.ensure_future(anext(source))
        try:
            while True:
                await asyncio.wait({coming}, timeout=check_at - loop.time())
                if loop.time() >= check_at:
                    caller.confirm()
                    check_at = loop.time() + CHECK_EVERY_S
                if coming.done():
                    try:
                        piece = coming.result()
                    except StopAsyncIteration:
                        return
                    yield piece
                    coming = asyncio.ensure_future(anext(source))
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
