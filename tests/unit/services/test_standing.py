"""Streams end when the key that opened them does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from services.http import standing
from services.http.access import Principal
from services.http.errors import ApiError
from services.http.standing import while_good

REVOKED = ApiError(401, "invalid_api_key", "this key was revoked, or has expired")


class Watched:
    """A stream of a caller whose key is good until it has a fault; it says how often it was looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(standing, "CHECK_EVERY_S", 0.01)
        self.fault: Exception | None = None
        self.looks = 0
        self.is_closed = False
        self.more = asyncio.Event()

    def stream(self) -> AsyncGenerator[int, None]:
        return while_good(self._pieces(), Principal("k", "k", ("inference",), _confirm=self._confirm))

    async def looked_at(self) -> None:
        seen = self.looks
        while self.looks == seen:
            await asyncio.sleep(0.001)

    def _confirm(self) -> None:
        self.looks += 1
        if self.fault is not None:
            raise self.fault

    async def _pieces(self) -> AsyncGenerator[int, None]:
        try:
            yield 1
            await self.more.wait()
            yield 2
            raise TimeoutError("of its own")
        finally:
            self.is_closed = True


@pytest.mark.parametrize("fault", [REVOKED, RuntimeError("whether it is good cannot be found out")])
def test_whoever_waits_for_a_piece_is_told_soon_that_the_key_is_good_no_more(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    async def main() -> None:
        watched = Watched(monkeypatch)
        stream = watched.stream()
        assert await anext(stream) == 1
        waiting = asyncio.ensure_future(anext(stream))
        await watched.looked_at()
        assert not waiting.done()
        watched.fault = fault
        async with asyncio.timeout(10):
            with pytest.raises(type(fault), match=str(fault)):
                await waiting
        assert watched.is_closed

    asyncio.run(main())


def test_whoever_is_slow_to_read_gets_no_further_piece_once_the_key_is_good_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        watched = Watched(monkeypatch)
        stream = watched.stream()
        watched.more.set()
        assert await anext(stream) == 1
        watched.fault = REVOKED
        await watched.looked_at()
        with pytest.raises(ApiError):
            await anext(stream)

    asyncio.run(main())


def test_pieces_and_faults_of_a_stream_are_its_own_and_nothing_looks_at_the_key_after_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        watched = Watched(monkeypatch)
        stream = watched.stream()
        watched.more.set()
        assert [await anext(stream), await anext(stream)] == [1, 2]
        with pytest.raises(TimeoutError, match="of its own"):
            await anext(stream)
        left = Watched(monkeypatch)
        stream = left.stream()
        await anext(stream)
        await left.looked_at()
        waiting = asyncio.ensure_future(anext(stream))
        await left.looked_at()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert left.is_closed
        assert asyncio.all_tasks() == {asyncio.current_task()}
        looks = watched.looks + left.looks
        running = Watched(monkeypatch)
        stream = running.stream()
        await anext(stream)
        for _ in range(3):
            await running.looked_at()
        await stream.aclose()
        assert watched.looks + left.looks == looks

    asyncio.run(main())
