"""Models of the MLflow registry, in memory while they are asked for: those unused for longest make room."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field

from steerline.errors import InferenceError, ModelError, TrackingError
from steerline.inference.request import Failure, StreamingBackend
from steerline.serving.versions import PAUSE_S, Versions
from steerline.tracking.registry import Registered

log = logging.getLogger("steerline.serving")

GIB = 1 << 30
_HOLD_OFF_S = 60.0
_LONGEST_HOLD_OFF_S = 3600.0


@dataclass(frozen=True)
class Weights:
    """A version's weights, as files of this machine."""

    size: int
    """Bytes of memory that they take."""
    load: Callable[[], StreamingBackend]
    """Makes a model of them that is ready to answer, which takes a while; raises `ModelError` or `InferenceError`."""


@dataclass(frozen=True)
class Room:
    """What registered models may take up together."""

    models: int
    size: int | None = None
    """Bytes of weights; none bounds their number alone."""


@dataclass(frozen=True)
class _HoldOff:
    """Of a version that could not be loaded."""

    failure: Failure
    pause_s: float
    until: float


@dataclass(eq=False)
class _Place:
    opening: asyncio.Task[StreamingBackend | Failure]
    files: ExitStack = field(default_factory=ExitStack)
    """What stays on disk while this is in memory."""
    size: int = 0
    users: int = 0


class RegisteredModels:
    """Answers for references to the registry.

    Args:
        versions: what references stand for.
        weights: has a version's weights on this machine inside its `with` block, which lasts while they are in memory.
            Entering it takes a while and blocks; raises `ModelError` or `TrackingError`.
        room: what they may take up.
        wait_s: seconds that a request waits for a model to be loaded before it is told to come again.
        clock: seconds.
    """

    def __init__(
        self,
        versions: Versions,
        weights: Callable[[Registered], AbstractContextManager[Weights]],
        room: Room,
        *,
        wait_s: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._versions = versions
        self._weights = weights
        self._room = room
        self._wait_s = wait_s
        self._clock = clock
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._held_off: dict[str, _HoldOff] = {}
        self._loading = asyncio.Lock()

    @property
    def loaded(self) -> dict[str, int]:
        """Bytes of weights in memory, by version."""
        return {uri: place.size for uri, place in self._places.items() if place.opening.done()}

    @property
    def backends(self) -> dict[str, StreamingBackend]:
        """Those in memory, by version."""
        opened = {uri: place.opening.result() for uri, place in self._places.items() if place.opening.done()}
        return {uri: backend for uri, backend in opened.items() if not isinstance(backend, Failure)}

    @asynccontextmanager
    async def use(self, reference: str) -> AsyncIterator[StreamingBackend | Failure]:
        """The model of a reference, which stays in memory inside the `with` block; or why there is none."""
        version = await self._versions.find(reference)
        if isinstance(version, Failure):
            yield version
            return
        place = self._place(version)
        if isinstance(place, Failure):
            yield place
            return
        place.users += 1
        try:
            done, _ = await asyncio.wait({place.opening}, timeout=self._wait_s)
            if place.opening.cancelled():
                yield Failure("unavailable", f"{version.uri} is not loaded any more: the endpoint ends", PAUSE_S)
            else:
                yield place.opening.result() if done else Failure("busy", f"{version.uri} is being loaded", PAUSE_S)
        finally:
            place.users -= 1

    async def references(self) -> list[str]:
        """What may be asked for by alias, as far as the server says so in time."""
        return await self._versions.references()

    async def close(self) -> None:
        """Gives back all models."""
        self._versions.close()
        places = list(self._places.values())
        self._places.clear()
        for place in places:
            place.opening.cancel()
        opened = await asyncio.gather(*(place.opening for place in places), return_exceptions=True)
        for backend in opened:
            if not isinstance(backend, BaseException | Failure):
                await backend.close()
        for place in places:
            place.files.close()

    def _place(self, version: Registered) -> _Place | Failure:
        """The place of a version, which may still be empty; those that wait to be filled are few."""
        held_off = self._held_off.get(version.uri)
        if held_off is not None and self._clock() < held_off.until:
            return held_off.failure
        place = self._places.get(version.uri)
        if place is None:
            if sum(not one.opening.done() for one in self._places.values()) >= self._room.models:
                return Failure("busy", "other registered models are being loaded", PAUSE_S)
            place = self._places[version.uri] = _Place(asyncio.create_task(self._open(version)))
        self._places.move_to_end(version.uri)
        return place

    async def _open(self, version: Registered) -> StreamingBackend | Failure:
        opened: StreamingBackend | Failure | None = None
        try:
            async with self._loading:
                opened = await self._load(version)
        except Exception as error:  # noqa: BLE001  the files are others': whatever they make a library raise
            opened = self._failed(version, error)
        finally:
            failed = opened is None or isinstance(opened, Failure)
            place = self._places.pop(version.uri, None) if failed else None
            if place is not None:
                place.files.close()
        return opened

    def _failed(self, version: Registered, error: Exception) -> Failure:
        """Why a version is not served: for what a server or this machine lacks now, or for a fault of its own."""
        what = f"{version.uri} cannot be loaded"
        match error:
            case TrackingError():
                log.error("%s now: %s", what, error)
                return Failure("unavailable", f"{what}: {error.what}", PAUSE_S)
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                log.error("%s now: %s", what, error)
                return Failure("unavailable", f"{what}: this machine's disk is full", PAUSE_S)
            case ModelError() | InferenceError():
                log.error("%s: %s", what, error)
                return self._turn_away(version, f"{what}: {error.what}")
            case _:
                log.error("%s", what, exc_info=error)
                return self._turn_away(version, f"{what}; the endpoint's log says more")

    def _turn_away(self, version: Registered, what: str) -> Failure:
        """Why a version cannot be loaded. It would fail again, and others would have made room for it: for a while it
        is not tried, for longer each time."""
        before = self._held_off.get(version.uri)
        pause_s = _HOLD_OFF_S if before is None else min(2 * before.pause_s, _LONGEST_HOLD_OFF_S)
        failure = Failure("unavailable", what)
        self._held_off[version.uri] = _HoldOff(failure, pause_s, self._clock() + pause_s)
        return failure

    async def _load(self, version: Registered) -> StreamingBackend | Failure:
        place = self._places[version.uri]
        weights = await asyncio.to_thread(place.files.enter_context, self._weights(version))
        if self._room.size is not None and weights.size > self._room.size:
            size, most = weights.size / GIB, self._room.size / GIB
            what = f"{version.uri} takes {size:.2f} GiB of memory, and registered models have {most:.2f} here"
            return self._turn_away(version, what)
        if not await self._make_room(weights.size):
            return Failure("busy", "the registered models in memory are all being asked, and leave no room", PAUSE_S)
        log.info("loading %s, %.2f GiB", version.uri, weights.size / GIB)
        place.size = weights.size
        opened = await asyncio.to_thread(weights.load)
        self._held_off.pop(version.uri, None)
        return opened

    async def _make_room(self, size: int) -> bool:
        """Whether another model has room, once those that are not being asked have gone, the longest unused first.
        Where that would not do, all stay."""
        staying, leaving = self.loaded, list[str]()
        idle = (uri for uri, place in self._places.items() if uri in staying and place.users == 0)
        while not self._has_room(size, staying.values()):
            longest_unused = next(idle, None)
            if longest_unused is None:
                return False
            leaving.append(longest_unused)
            del staying[longest_unused]
        for uri, place in [(uri, self._places.pop(uri)) for uri in leaving]:
            backend = place.opening.result()
            assert not isinstance(backend, Failure), "what failed has no place"
            log.info("%s makes room", uri)
            await backend.close()
            place.files.close()
        return True

    def _has_room(self, size: int, sizes: Collection[int]) -> bool:
        return len(sizes) < self._room.models and (self._room.size is None or sum(sizes) + size <= self._room.size)
