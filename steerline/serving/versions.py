"""Which version of the MLflow registry a reference stands for, remembered for some seconds."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from steerline.config.serving import ServingSpec
from steerline.errors import TrackingError
from steerline.inference.request import Failure
from steerline.tracking.references import resolve_uri
from steerline.tracking.registry import Registered, aliases, lookup

log = logging.getLogger("steerline.serving")

T = TypeVar("T")
PAUSE_S = 5.0
"""Seconds after which whoever was told to come again may."""
SCHEME = "models:/"
"""How references begin; no name of a spec's models does."""
_REFERENCE = re.compile(rf"{SCHEME}(?P<name>[^/@:]{{1,128}})(?:@[A-Za-z0-9_-]{{1,64}}|/[0-9]{{1,10}})")
_ALIAS_FRESH_S = 10.0
_VERSION_FRESH_S = 600.0  # what a number stands for changes only if it is deleted
_MISSING_S = 5.0
_KNOWN_WAIT_S = 0.5
_MOST_MISSING = 1024
_LISTED_FRESH_S = 5.0
_MOST_AT_ONCE = 8
_MOST_LISTED_AT_ONCE = 4  # so that a registry that hangs leaves threads to look-ups
_MOST_WAITING = 16  # look-ups of one name


@dataclass(frozen=True)
class RegistryAccess:
    """The way to a registry. All of it blocks."""

    find: Callable[[str], Registered | None]
    """The version that a reference stands for; raises `TrackingError` if the server is away."""
    aliases: Callable[[str], Mapping[str, str]]
    """Version by alias, of a registered name."""


@dataclass
class _LookUps:
    """Of one registered name: one is under way, the others wait for it."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: dict[str, asyncio.Task[Registered | Failure]] = field(default_factory=dict)


class Versions:
    """Versions of `models:/<name>@<alias>` and `models:/<name>/<version>`, for names that are allowed.

    Clients make references up, and a registry may be slow. So a reference is looked up once for all who ask, one that
    the registry does not have is remembered too, few look-ups of one name wait, and those of another name do not wait
    for them. An alias is looked up again after some seconds, so that moving it changes who answers; while the registry
    is away or slow, what was found before answers, and few requests wait for it.

    Args:
        allow: registered names that may be asked for.
        access: the way to the registry.
        wait_s: seconds that a request waits for it.
        clock: seconds.
    """

    def __init__(
        self,
        allow: Collection[str],
        access: RegistryAccess,
        *,
        wait_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._wait_s = wait_s
        self._clock = clock
        self._names = {name: _LookUps() for name in allow}
        self._found: dict[str, tuple[Registered, float]] = {}
        self._missing: dict[str, float] = {}
        self._listed: tuple[list[str], float] = [], float("-inf")
        self._listing: asyncio.Task[list[str]] | None = None
        self._listers = asyncio.Semaphore(_MOST_LISTED_AT_ONCE)
        # Apart from the threads that everything else of the process shares.
        self._threads = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="steerline-registry")

    async def find(self, reference: str) -> Registered | Failure:
        """The version of a reference, or why there is none."""
        named = _REFERENCE.fullmatch(reference)
        if named is None or named["name"] not in self._names:
            return Failure("unknown_model", f"{reference} is not served here")
        now = self._clock()
        known, fresh_until = self._found.get(reference, (None, 0.0))
        if known is not None and now < fresh_until:
            return known
        if now < self._missing.get(reference, now):
            return _unknown(reference)
        if known is None:
            return await self._looked_up(reference, named["name"], self._wait_s)
        found = await self._looked_up(reference, named["name"], min(self._wait_s, _KNOWN_WAIT_S))
        if isinstance(found, Failure) and found.retryable:
            # What was found before is the best that can be known while the registry does not say.
            self._found[reference] = known, self._clock() + _MISSING_S
            return known
        return found

    async def references(self) -> list[str]:
        """What may be asked for by alias, as far as the server says so in time."""
        listed, fresh_until = self._listed
        if self._clock() < fresh_until:
            return listed
        if self._listing is None or self._listing.done():
            self._listing = asyncio.create_task(self._list())
        # Whoever stops waiting leaves it to the others.
        return await asyncio.shield(self._listing)

    def close(self) -> None:
        """Ends the threads after what they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _looked_up(self, reference: str, name: str, wait_s: float) -> Registered | Failure:
        look_ups = self._names[name]
        task = look_ups.tasks.get(reference)
        if task is None:
            if len(look_ups.tasks) >= _MOST_WAITING:
                return Failure("busy", f"{_MOST_WAITING} versions of {name} are being looked up already", PAUSE_S)
            task = asyncio.create_task(self._look_up(reference, look_ups))
            look_ups.tasks[reference] = task
        # Whoever stops waiting leaves it to the others.
        done, _ = await asyncio.wait({task}, timeout=wait_s)
        return (
            task.result() if done else Failure("unavailable", f"the registry does not say what {reference} is", PAUSE_S)
        )

    async def _look_up(self, reference: str, look_ups: _LookUps) -> Registered | Failure:
        try:
            async with look_ups.turn:
                version = await self._in_thread(self._access.find, reference)
        except TrackingError as error:
            return Failure("unavailable", error.what, PAUSE_S)
        finally:
            del look_ups.tasks[reference]
        if version is None:
            self._found.pop(reference, None)
            self._missing.pop(reference, None)
            self._missing[reference] = self._clock() + _MISSING_S
            if len(self._missing) > _MOST_MISSING:
                del self._missing[next(iter(self._missing))]
            return _unknown(reference)
        fresh_s = _ALIAS_FRESH_S if "@" in reference else _VERSION_FRESH_S
        self._found[reference] = version, self._clock() + fresh_s
        return version

    async def _list(self) -> list[str]:
        found = await asyncio.gather(*map(self._aliases, self._names))
        listed = [reference for references in found for reference in references]
        self._listed = listed, self._clock() + _LISTED_FRESH_S
        return listed

    async def _aliases(self, name: str) -> list[str]:
        try:
            async with self._listers:
                found = await self._in_thread(self._access.aliases, name)
        except TrackingError as error:
            log.warning("the registry does not list %s: %s", name, error.what)
            return []
        return [f"{SCHEME}{name}@{alias}" for alias in sorted(found)]

    async def _in_thread(self, call: Callable[[str], T], about: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, about)


def versions_of(spec: ServingSpec) -> Versions | None:
    """Those that an endpoint serves; none where it serves no registered model.

    Raises:
        TrackingError: models of the registry are allowed, and no server is named.
    """
    if spec.registry is None:
        return None
    if spec.tracking is None:
        raise TrackingError(
            "models of the registry are served, and there is no tracking server", where="tracking", fix="set `tracking`"
        )
    uri = resolve_uri(spec.tracking)
    return Versions(spec.registry.allow, RegistryAccess(partial(lookup, uri), partial(aliases, uri)))


def _unknown(reference: str) -> Failure:
    return Failure("unknown_model", f"the registry has no {reference}")
