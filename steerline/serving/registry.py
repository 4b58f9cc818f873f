"""Models of the MLflow registry, in memory while they are asked for: the one unused for longest makes room."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from steerline.config.serving import RegistrySpec
from steerline.errors import InferenceError, ModelError, TrackingError
from steerline.inference.request import Failure, StreamingBackend
from steerline.tracking.registry import Registered

log = logging.getLogger("steerline.serving")

_REFERENCE = re.compile(r"models:/(?P<name>[^/@:]{1,128})(?:@[A-Za-z0-9_-]{1,64}|/[0-9]{1,10})")
_FRESH_S = 10.0
_PAUSE_S = 5.0


@dataclass(frozen=True)
class RegistryAccess:
    """The way to a registry and to its weights. All of it blocks."""

    find: Callable[[str], Registered | None]
    """The version that a reference stands for; raises `TrackingError` if the server is away."""
    aliases: Callable[[str], Mapping[str, str]]
    """Version by alias, of a registered name."""
    load: Callable[[Registered], StreamingBackend]
    """A version's weights, ready to answer; raises `ModelError`, `InferenceError` or `TrackingError`."""


@dataclass(eq=False)
class _Place:
    opening: asyncio.Task[StreamingBackend]
    users: int = 0


class RegisteredModels:
    """Answers for `models:/<name>@<alias>` and `models:/<name>/<version>`, for names that are allowed.

    An alias is looked up again after some seconds, so that moving it changes who answers.

    Args:
        spec: which names, and how many models at once.
        access: the way to them.
        wait_s: seconds that a request waits for a model to be loaded before it is told to come again.
        clock: seconds.
    """

    def __init__(
        self,
        spec: RegistrySpec,
        access: RegistryAccess,
        *,
        wait_s: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._access = access
        self._wait_s = wait_s
        self._clock = clock
        self._found: dict[str, tuple[Registered, float]] = {}
        self._finding = asyncio.Lock()
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._loading = asyncio.Lock()

    @asynccontextmanager
    async def use(self, reference: str) -> AsyncIterator[StreamingBackend | Failure]:
        """The model of a reference, which stays in memory inside the `with` block; or why there is none."""
        named = _REFERENCE.fullmatch(reference)
        if named is None or named["name"] not in self._spec.allow:
            yield Failure("unknown_model", f"{reference} is not served here")
            return
        version = await self._version(reference)
        if isinstance(version, Failure):
            yield version
            return
        place = self._place(version)
        if isinstance(place, Failure):
            yield place
            return
        place.users += 1
        try:
            yield await self._opened(version, place)
        finally:
            place.users -= 1

    async def references(self) -> list[str]:
        """What may be asked for by alias, as far as the server says so in time."""
        found = []
        for name in self._spec.allow:
            try:
                aliases = await asyncio.to_thread(self._access.aliases, name)
            except TrackingError as error:
                log.warning("the registry does not list %s: %s", name, error.what)
            else:
                found += [f"models:/{name}@{alias}" for alias in sorted(aliases)]
        return found

    async def close(self) -> None:
        """Gives back all models."""
        places = list(self._places.values())
        self._places.clear()
        for place in places:
            place.opening.cancel()
        opened = await asyncio.gather(*(place.opening for place in places), return_exceptions=True)
        for backend in opened:
            if not isinstance(backend, BaseException):
                await backend.close()

    async def _version(self, reference: str) -> Registered | Failure:
        async with self._finding:
            known = self._found.get(reference)
            if known is not None and self._clock() < known[1]:
                return known[0]
            try:
                version = await asyncio.to_thread(self._access.find, reference)
            except TrackingError as error:
                # What was found before is the best that can be known while the server is away.
                return Failure("unavailable", error.what, _PAUSE_S) if known is None else known[0]
            if version is None:
                self._found.pop(reference, None)
                return Failure("unknown_model", f"the registry has no {reference}")
            self._found[reference] = (version, self._clock() + _FRESH_S)
            return version

    def _place(self, version: Registered) -> _Place | Failure:
        place = self._places.get(version.uri)
        if place is None:
            leaving = None
            if len(self._places) >= self._spec.most_loaded:
                idle = [uri for uri, one in self._places.items() if one.users == 0 and one.opening.done()]
                if not idle:
                    return Failure("busy", "every registered model in memory is being asked", _PAUSE_S)
                leaving = self._places.pop(idle[0])
            place = self._places[version.uri] = _Place(asyncio.create_task(self._open(version, leaving)))
        self._places.move_to_end(version.uri)
        return place

    async def _open(self, version: Registered, leaving: _Place | None) -> StreamingBackend:
        async with self._loading:
            if leaving is not None:
                await leaving.opening.result().close()
            log.info("loading %s", version.uri)
            return await asyncio.to_thread(self._access.load, version)

    async def _opened(self, version: Registered, place: _Place) -> StreamingBackend | Failure:
        done, _ = await asyncio.wait({place.opening}, timeout=self._wait_s)
        if not done:
            return Failure("busy", f"{version.uri} is being loaded", _PAUSE_S)
        try:
            return place.opening.result()
        except (ModelError, InferenceError, TrackingError) as error:
            log.error("%s cannot be served: %s", version.uri, error)  # noqa: TRY400  the error says it all
            # The next request tries again.
            if self._places.get(version.uri) is place:
                del self._places[version.uri]
            return Failure("unavailable", f"{version.uri} cannot be loaded: {error.what}")
