"""What a key may still use of its tokens of today."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from services.http.errors import ApiError
from steerline.errors import AccessError
from steerline.serving.keys import Key
from steerline.serving.usage import Taken, UsageBook

T = TypeVar("T")
# Apart from the threads that may wait for a store of simulations.
_BOOKKEEPER = ThreadPoolExecutor(1, thread_name_prefix="steerline-usage")
_PATIENCE_S = 2.0
"""Nobody waits longer for a book that another process holds, however many wait for it."""


class Day:
    """A key's tokens of today: those that it used, and those that may come of what is being written for it.

    Args:
        usage: tokens by key and day.
        key: whose.
    """

    def __init__(self, usage: UsageBook, key: Key) -> None:
        self._usage = usage
        self._key = key

    def spend(self, tokens: int) -> None:
        """Count tokens that were used, ahead of all that the book is told or asked from now on; nobody waits for it."""
        asyncio.get_running_loop().run_in_executor(_BOOKKEEPER, self._usage.add, self._key.id, tokens)

    async def check(self) -> None:
        """See that it was not used up. What may come of what is being written counts once more is to be (`hold`).

        Raises:
            ApiError: 429; it was. 503; the book does not answer.
        """
        most = self._key.tokens_per_day
        if most is not None:
            self._check(await _booked(partial(self._usage.today, self._key.id)), most)

    @asynccontextmanager
    async def hold(self, tokens: int) -> AsyncIterator[None]:
        """Around what is being written: so many tokens may come of it.

        Raises:
            ApiError: as for `check`; 429, what is being written may take the rest.
        """
        most = self._key.tokens_per_day
        if most is None:
            yield
            return
        name = uuid.uuid4().hex
        try:
            taken = await _booked(partial(self._usage.hold, name, self._key.id, tokens, most))
            self._check(taken.used, most)
            if not taken.leaves_some_of(most):
                raise _all_held(taken, most)
            yield
        finally:
            # Whoever is being cancelled cannot wait, and may not know whether the book has come to hold them.
            _BOOKKEEPER.submit(self._usage.release, name)

    def _check(self, used: int, most: int) -> None:
        if used >= most:
            raise ApiError(
                429,
                "token_quota_exceeded",
                f"this key has used {used} of its {most} tokens of today; the next day of UTC brings new ones",
                retry_after_s=self._usage.seconds_to_midnight(),
            )


def _all_held(taken: Taken, most: int) -> ApiError:
    return ApiError(
        429,
        "token_quota_held",
        f"this key has used {taken.used} of its {most} tokens of today, and {taken.held} may come of what is being "
        "written for it; wait for that, or set `max_tokens` lower",
        retry_after_s=1.0,
    )


async def _booked(look: Callable[[], T]) -> T:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await asyncio.get_running_loop().run_in_executor(_BOOKKEEPER, look)
    except (TimeoutError, AccessError) as error:
        raise ApiError(
            503,
            "usage_unreadable",
            "the endpoint cannot read what this key has used today; its log says more",
            retry_after_s=_PATIENCE_S,
        ) from error
