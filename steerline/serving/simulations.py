"""Plays the simulations of a store that somebody wants played, side by side with other hosts on the same store.

What is to be played stands in the store, and who plays it holds a lease there, so that a host that dies loses nothing:
once its leases have run out, another host goes on from the last committed tick to the same end. A simulation that has
ended, is paused, or waits for a person takes up nothing here.

Each is played in a thread of its own, so that one whose ticks compute for long holds up neither the others nor the
event loop of the host, in which the models are asked and nothing else happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from types import TracebackType
from typing import Protocol, Self

from steerline.config.inference import ClientSpec
from steerline.config.simulation import SimulationSpec
from steerline.errors import LeaseError, SimulationError, SteerlineError, StoreAwayError
from steerline.inference.client import InferenceClient
from steerline.inference.request import Backend
from steerline.serving.paying import Paid, Purses
from steerline.serving.threads import DistantClient, apart, in_thread
from steerline.simulation.asking import served_names
from steerline.simulation.engine import LEASE_S, Engine, HandedOver, Surroundings
from steerline.simulation.lease_keeper import LeaseKeeper
from steerline.simulation.store.base import Store
from steerline.simulation.turn import Decider

log = logging.getLogger("steerline.serving")

RECORDED = "recorded"
"""Operation that says that a tracking server has a simulation that ended, and where."""
TAKEN = "taken"
"""Operation that says that a host has taken a simulation on, and after how many ticks."""
LEFT = "left"
"""Operation that says that a host has broken off a tick, as it was closed."""
MOST_DEATHS = 5
"""Hosts that take a simulation on without a tick or a word of how it went, before it is held to kill them."""
END_S = 5.0
"""Seconds that a host that closes waits for ticks that it has broken off."""


class Recording(Protocol):
    """Where simulations are recorded that have ended."""

    def record(self, store: Store, sim: str) -> str:
        """Record one; where it can be looked at. Recording it again changes nothing.

        Raises:
            SteerlineError: it is not recorded whole, and is to be recorded again later.
        """
        ...


@dataclass(frozen=True)
class HostLimits:
    """What a host takes on, and when."""

    together: int = 64
    """Simulations at once."""
    lease_s: float = LEASE_S
    """Seconds after which another host takes over from one that is silent."""
    look_every_s: float = 1.0
    """Seconds between looks into the store, for what nobody called attention to."""
    record_again_s: float = 30.0
    """Seconds until a recording is tried again that failed."""


class SimulationHost:
    """One of the hosts of a store. Open it with `async with`, which ends by closing it.

    Args:
        store: holds the simulations.
        backends: answer for the served models, by name; the host closes them.
        more: opens a model by a name that is not among them; none where it is not served either. It is let go once no
            simulation that is played names it.
        client: limits between simulations and the models.
        limits: what it takes on.
        recording: where simulations are recorded that have ended; none records none.
        purses: of the keys that pay for simulations; none plays for nothing.
        grace_s: seconds that ticks have to end in when it closes; what they have asked models by then is kept.
    """

    def __init__(
        self,
        store: Store,
        backends: Mapping[str, Backend],
        *,
        more: Callable[[str], Backend | None] = lambda _: None,
        client: ClientSpec | None = None,
        limits: HostLimits | None = None,
        recording: Recording | None = None,
        purses: Purses | None = None,
        grace_s: float = 10.0,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._store = store
        self._backends = backends
        self._more = more
        self._client_spec = client
        self._limits = limits or HostLimits()
        self._recording = recording
        self._purses = purses
        self._grace_s = grace_s
        self._client: InferenceClient | None = None
        self._played: dict[str, asyncio.Task[None]] = {}
        self._named: dict[str, frozenset[str]] = {}  # served models of those that are played
        # What could not be played, for a while: another attempt at once would go the same way.
        self._held_back: set[str] = set()
        # One at a time, for figures are drawn by a library that does one thing at a time.
        self._seen_off: asyncio.Future[None] | None = None
        self._record_after = 0.0
        self._looker: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._leaving = False

    async def __aenter__(self) -> Self:
        booked = None if self._purses is None else self._purses.book
        self._client = InferenceClient(self._backends, self._client_spec, booked)
        self._looker = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def playing(self) -> tuple[str, ...]:
        """The simulations that it plays now."""
        return tuple(self._played)

    def wake(self) -> None:
        """Look into the store now."""
        self._woken.set()

    def check(self) -> None:
        """See that it still looks into the store.

        Raises:
            Exception: what ended that, a fault in the code.
        """
        if self._looker is not None and self._looker.done():
            self._looker.result()

    async def close(self) -> None:
        """Take on nothing more, let ticks end, and give back the leases, so that other hosts go on at once."""
        self._leaving = True
        self.wake()
        if self._looker is not None:
            # Whatever it ended with, leases are given back.
            await asyncio.wait({self._looker})
        tasks = [*self._played.values(), *([] if self._seen_off is None else [self._seen_off])]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._grace_s)
            for task in late:
                task.cancel()
            if late:
                # One that computes hears of it once it gives way. Its lease runs out, should the process end before.
                await asyncio.wait(late, timeout=END_S)
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _look(self) -> None:
        while not self._leaving:
            self._woken.clear()
            try:
                await self._let_go()
                await self._take_on()
            except SteerlineError as error:
                log.warning("the store of simulations cannot be read, and is tried again: %s", error)
            try:
                async with asyncio.timeout(self._limits.look_every_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _take_on(self) -> None:
        free = self._limits.together - len(self._played)
        if free > 0:
            # Those that are played already may be among them, between two leases.
            others = self._played.keys() | self._held_back
            found = await asyncio.to_thread(self._store.runnable, free + len(others))
            for sim in [sim for sim in found if sim not in others][:free]:
                name, attending = f"simulation {sim}", self._attend(sim, asyncio.get_running_loop())
                self._played[sim] = task = asyncio.create_task(apart(attending, name), name=name)
                task.add_done_callback(partial(self._rested, sim))
        if self._seen_off is None and time.monotonic() >= self._record_after:
            for sim in await asyncio.to_thread(partial(self._store.runnable, 1, ended=True)):
                name = f"end of simulation {sim}"
                # What records may run an event loop of its own, so that none runs there.
                self._seen_off = in_thread(partial(self._see_off, sim), name)
                self._seen_off.add_done_callback(partial(self._was_seen_off, sim))

    def _rested(self, sim: str, task: asyncio.Task[None]) -> None:
        self._played.pop(sim, None)
        self._named.pop(sim, None)
        if _succeeded(task, f"simulation {sim} is left, and is tried again"):
            self.wake()
        else:
            self._held_back.add(sim)
            asyncio.get_running_loop().call_later(self._limits.look_every_s, self._held_back.discard, sim)

    def _was_seen_off(self, sim: str, task: asyncio.Future[None]) -> None:
        self._seen_off = None
        if _succeeded(task, f"simulation {sim} is left to be seen off"):
            self.wake()
        else:
            self._record_after = max(self._record_after, time.monotonic() + self._limits.look_every_s)

    async def _attend(self, sim: str, home: asyncio.AbstractEventLoop) -> None:
        """Play a simulation until it stands still. What fails stays with it.

        Args:
            sim: the simulation.
            home: the host's event loop; this runs in another one.

        Raises:
            StoreAwayError: the store does not answer; the lease runs out, and whoever finds the store again goes on.
        """
        served = 0
        try:
            hosted = self._store.hosted(sim)
            served = 0 if hosted is None else hosted.number
            await self._play(sim, home)
        except HandedOver:
            log.info("simulation %s is handed over", sim)
        except LeaseError as error:
            log.info("another host has simulation %s: %s", sim, error.got)
        except StoreAwayError:
            raise
        except asyncio.CancelledError:
            self._store.operate(sim, LEFT, {"by": self.name})
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  a scenario of somebody's own may raise anything
            self._fail(sim, served, error)

    async def _play(self, sim: str, home: asyncio.AbstractEventLoop) -> None:
        hosted = self._store.hosted(sim)
        assert hosted is not None
        self._take(sim, hosted.ticks)
        spec = SimulationSpec.model_validate(hosted.record.spec)
        assert self._client is not None
        # Models are opened where they are asked.
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._reach(sim, spec), home))
        around = Surroundings(
            client=DistantClient(self._client, home), leaving=lambda: self._leaving, decider=self._paid(sim, spec)
        )
        engine = Engine(spec, self._store, sim, around=around, owner=self.name, lease_s=self._limits.lease_s)
        result = await engine.run()
        log.info("simulation %s is %s after %d ticks: %s", sim, result.status, result.tick, result.reason)

    def _paid(self, sim: str, spec: SimulationSpec) -> Callable[[Decider], Decider] | None:
        """Has whoever asked for a simulation pay for what its models are asked."""
        if self._purses is None or not spec.models:
            return None
        purse = self._purses.of(self._store, sim)
        return None if purse is None else partial(Paid, purse)

    def _take(self, sim: str, ticks: int) -> None:
        """Note that this host plays a simulation now.

        Raises:
            LeaseError: another host plays it.
            SimulationError: hosts that did so have died again and again.
        """
        # The engine takes the lease again, as the same owner. Without it, hosts that come too late would count as dead.
        self._store.acquire(sim, self.name, self._limits.lease_s)
        before = takewhile(
            lambda entry: entry.kind == TAKEN and entry.payload["ticks"] == ticks, reversed(self._store.operations(sim))
        )
        # This one is alive, however often it had to leave the simulation because the store did not answer.
        dead = {entry.payload["by"] for entry in before} - {self.name}
        if len(dead) >= MOST_DEATHS:
            raise SimulationError(
                f"{len(dead)} processes that played this simulation died in tick {ticks}",
                fix="see their logs; it may take more memory than they have",
            )
        self._store.operate(sim, TAKEN, {"by": self.name, "ticks": ticks})

    async def _reach(self, sim: str, spec: SimulationSpec) -> None:
        """Open the models that a simulation names and that nobody has asked for yet."""
        assert self._client is not None
        self._named[sim] = frozenset(served_names(spec).values())
        for name in self._named[sim]:
            backend = None if name in self._client.models else self._more(name)
            if backend is not None:
                self._client.add(name, backend)

    async def _let_go(self) -> None:
        """Close the models that were opened for simulations of which none is played now."""
        assert self._client is not None
        kept = frozenset(self._backends).union(*self._named.values())
        await self._client.release([name for name in self._client.models if name not in kept])

    def _fail(self, sim: str, served: int, error: BaseException) -> None:
        """Say in the store why a simulation cannot go on, so that no host tries again before somebody asks."""
        log.warning("simulation %s failed", sim, exc_info=error)
        lease = self._store.acquire(sim, self.name, self._limits.lease_s)
        try:
            self._store.stand_still(lease, "failed", told(error), served=served)
            self._store.operate(sim, "failed", {"reason": told(error)})
        finally:
            self._store.release(lease)

    def _see_off(self, sim: str) -> None:
        """Record a simulation that has ended, and forget that it was wanted. The lease keeps other hosts away."""
        try:
            lease = self._store.acquire(sim, self.name, self._limits.lease_s)
            try:
                # Whoever takes it over meanwhile sees it off as well, and recording it again changes nothing.
                with LeaseKeeper(self._store, lease, self._limits.lease_s, lambda error: log.warning("%s", error)):
                    again_at = self._record(sim)
                self._store.postpone(lease, again_at)
            finally:
                self._store.release(lease)
        except LeaseError as error:
            log.info("another host sees simulation %s off: %s", sim, error.got)

    def _record(self, sim: str) -> float | None:
        """Record a simulation, once; when to try again, where that failed."""
        if self._recording is None or any(entry.kind == RECORDED for entry in self._store.operations(sim)):
            return None
        try:
            where = self._recording.record(self._store, sim)
        except Exception as error:  # noqa: BLE001  whatever it is, the simulation has ended well
            log.warning("simulation %s is not recorded, and is tried again: %s", sim, error)
            self._store.operate(sim, "not_recorded", {"reason": told(error)})
            # A server that is away is away for all.
            self._record_after = time.monotonic() + self._limits.record_again_s
            return time.time() + self._limits.record_again_s
        self._store.operate(sim, RECORDED, {"at": where})
        return None


def _succeeded(task: asyncio.Future[None], otherwise: str) -> bool:
    """Whether a task did what it was to do; the log says why it did not."""
    if task.cancelled():
        return False
    error = task.exception()
    if error is not None:
        log.warning("%s: %s", otherwise, told(error))
    return error is None


def told(error: BaseException) -> str:
    """An error in words: ours without its place; anything else with its kind and the line that raised it."""
    if isinstance(error, SteerlineError):
        # Whoever looks at the simulation reads it, and a place may be a path of this machine.
        named = {"got": error.got, "expected": error.expected, "fix": error.fix}
        return "; ".join([error.what, *(f"{name}: {value}" for name, value in named.items() if value is not None)])
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
