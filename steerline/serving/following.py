"""Following the events of simulations as they are committed: any number of readers, each at its own pace.

A reader is a cursor and reads the store page by page, so that one who is slow, or gone for a while, costs a page and no
queue. One look at the store serves all readers of a simulation, and readers at the same place share what was read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from steerline.errors import SteerlineError
from steerline.simulation.canonical import canonical
from steerline.simulation.event import Event
from steerline.simulation.store.base import Store

log = logging.getLogger("steerline.serving")

PAGE = 64
"""Events read at once."""
_SHARED_PAGES = 16
_FINAL = ("ended", "stopped")


@dataclass(frozen=True)
class Standing:
    """How a simulation stands."""

    seq: int
    """Number of its last event."""
    hash: str
    status: str
    reason: str

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self.status in _FINAL


@dataclass(frozen=True)
class Line:
    """An event on its way to a reader."""

    seq: int
    json: bytes
    """As it stands in a bundle: canonical, so that its hash can be checked."""


@dataclass(frozen=True)
class Wanted:
    """Which events a reader wants."""

    kinds: tuple[str, ...] = ()
    """Only those; none takes all."""
    agent: str | None = None
    """Only this one's."""


Part = Sequence[Line] | Standing | None
"""What a reader gets: a page, at last how the simulation ended, or nothing for so long that it needs a sign of life."""


class Following:
    """The readers of a store in one event loop.

    Args:
        store: holds the simulations.
        quick_s: seconds between looks at a simulation whose events come.
        slow_s: seconds between looks at one that stands still.
        heartbeat_s: seconds without an event after which readers get nothing, as a sign of life.
    """

    def __init__(self, store: Store, *, quick_s: float = 0.05, slow_s: float = 1.0, heartbeat_s: float = 15.0) -> None:
        self._store = store
        self._quick_s = quick_s
        self._slow_s = slow_s
        self._heartbeat_s = heartbeat_s
        self._watches: dict[str, _Watch] = {}

    async def follow(self, sim: str, after: int = 0, wanted: Wanted | None = None) -> AsyncGenerator[Part, None]:
        """The events that follow number `after`, those that are there and those that come, to the end.

        Closing the generator is all that it takes to stop.
        """
        wanted = wanted or Wanted()
        watch = self._watches.get(sim)
        if watch is None:
            watch = self._watches[sim] = _Watch(self._store, sim, self._quick_s, self._slow_s)
        watch.readers += 1
        try:
            while True:
                standing = await watch.beyond(after, self._heartbeat_s)
                if standing is None:
                    yield None
                    continue
                if standing.seq > after:
                    lines, after = await watch.page(after, standing.seq, wanted)
                    if lines:
                        yield lines
                else:
                    yield standing
                    return
        finally:
            watch.readers -= 1
            if watch.readers == 0:
                del self._watches[sim]
                await watch.close()

    async def so_far(
        self, sim: str, after: int = 0, wanted: Wanted | None = None
    ) -> AsyncGenerator[Sequence[Line], None]:
        """The events that follow number `after` and are there now, page by page."""
        wanted, found = wanted or Wanted(), await asyncio.to_thread(self._store.find, sim)
        head = 0 if found is None else found.seq
        while after < head:
            lines, after = await asyncio.to_thread(_read, self._store, sim, after, head, wanted)
            if lines:
                yield lines


class _Watch:
    """Looks at one simulation for all its readers."""

    def __init__(self, store: Store, sim: str, quick_s: float, slow_s: float) -> None:
        self.readers = 0
        self._store = store
        self._sim = sim
        self._quick_s = quick_s
        self._slow_s = slow_s
        self._standing: Standing | None = None
        self._fault: Exception | None = None
        self._changed = asyncio.Condition()
        self._looker = asyncio.create_task(self._look(), name=f"followers of {sim}")
        self._pages: OrderedDict[object, asyncio.Task[tuple[list[Line], int]]] = OrderedDict()

    async def beyond(self, after: int, seconds: float) -> Standing | None:
        """How the simulation stands, once that is news to a reader who has come so far; none if nothing comes.

        Raises:
            Exception: what ended the looks at it, a fault.
        """

        def is_news() -> bool:
            if self._fault is not None:
                raise self._fault
            return self._standing is not None and (self._standing.seq > after or self._standing.is_final)

        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(is_news)
        except TimeoutError:
            return None
        return self._standing

    async def page(self, after: int, head: int, wanted: Wanted) -> tuple[list[Line], int]:
        """A page of events, and how far a reader has come with it."""
        place = (after, head, wanted)
        task = self._pages.get(place)
        if task is None or (task.done() and task.exception() is not None):
            reading = asyncio.to_thread(_read, self._store, self._sim, after, head, wanted)
            task = self._pages[place] = asyncio.create_task(reading)
            if len(self._pages) > _SHARED_PAGES:
                self._pages.popitem(last=False)
        # A reader that goes away must not take the page from the others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Nobody reads any longer."""
        self._looker.cancel()
        await asyncio.gather(self._looker, *self._pages.values(), return_exceptions=True)

    async def _look(self) -> None:
        try:
            await self._look_until_the_end()
        except Exception as error:  # noqa: BLE001  whatever it is, it is raised where the events are read
            self._fault = error
            async with self._changed:
                self._changed.notify_all()

    async def _look_until_the_end(self) -> None:
        pause = self._quick_s
        while self._standing is None or not self._standing.is_final:
            try:
                found = await asyncio.to_thread(self._store.find, self._sim)
            except SteerlineError as error:
                # Readers see no more than that nothing comes for a while.
                log.warning("the events of %s cannot be looked at, and are tried again: %s", self._sim, error)
                await asyncio.sleep(self._slow_s)
                continue
            assert found is not None
            standing = Standing(found.seq, found.hash, found.status, found.reason)
            pause = self._quick_s if standing != self._standing else min(2 * pause, self._slow_s)
            if standing != self._standing:
                self._standing = standing
                async with self._changed:
                    self._changed.notify_all()
            await asyncio.sleep(pause)


def _read(store: Store, sim: str, after: int, head: int, wanted: Wanted) -> tuple[list[Line], int]:
    events = list(store.events(sim, after, PAGE, kinds=wanted.kinds, agent=wanted.agent))
    lines = [Line(event.seq, line_of(event)) for event in events]
    # A page that is not full has come to the head; the store may have gone further meanwhile.
    return lines, lines[-1].seq if len(lines) == PAGE else max([head, *(line.seq for line in lines)])


def line_of(event: Event) -> bytes:
    """An event as a line of JSON, without the end of the line."""
    fields = {name: getattr(event, name) for name in Event.__slots__}
    return canonical(fields)
