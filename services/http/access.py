"""Who calls: bearer keys, what each may do, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from services.http.errors import ApiError
from services.http.limits import Rates
from steerline.errors import AccessError
from steerline.serving.keys import SCOPES, Key, KeyBook, Scope
from steerline.serving.usage import UsageBook

# Browsers cannot give a WebSocket headers of their own, but subprotocols.
SOCKET_PROTOCOL = "steerline.v1"
SOCKET_KEY_PREFIX = "steerline.key."


# Apart from the threads that may wait for a store of simulations.
_BOOKKEEPER = ThreadPoolExecutor(1, thread_name_prefix="steerline-usage")


class Day:
    """A key's tokens of today: those that it used, and those that may come of what is being written for it.

    Args:
        usage: tokens by key and day.
        key: whose.
        held: tokens that may come, by key, of all calls of this process.
    """

    def __init__(self, usage: UsageBook, key: Key, held: dict[str, int]) -> None:
        self._usage = usage
        self._key = key
        self._held = held

    def spend(self, tokens: int) -> None:
        """Count tokens that were used."""
        self._usage.add(self._key.id, tokens)

    def check(self) -> None:
        """See that some are left.

        Raises:
            ApiError: 429; none.
        """
        most = self._key.tokens_per_day
        if most is None:
            return
        used, held = self._usage.today(self._key.id), self._held.get(self._key.id, 0)
        if used >= most:
            raise ApiError(
                429,
                "token_quota_exceeded",
                f"this key has used {used} of its {most} tokens of today; the next day of UTC brings new ones",
                retry_after_s=self._usage.seconds_to_midnight(),
            )
        if used + held >= most:
            raise ApiError(
                429,
                "token_quota_held",
                f"this key has used {used} of its {most} tokens of today, and {held} may come of what is being written "
                "for it; wait for that, or set `max_tokens` lower",
                retry_after_s=1.0,
            )

    @contextmanager
    def hold(self, tokens: int) -> Iterator[None]:
        """Around what is being written: so many tokens may come of it.

        Raises:
            ApiError: 429; none are left.
        """
        self.check()
        name = self._key.id
        self._held[name] = self._held.get(name, 0) + tokens
        try:
            yield
        finally:
            self._held[name] -= tokens
            if not self._held[name]:
                del self._held[name]


@dataclass(frozen=True)
class Principal:
    """Who made a call."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    _day: Day | None = field(default=None, repr=False, compare=False)

    async def spend(self, tokens: int) -> None:
        """Count tokens, prompt and completion together, against the key's day. Call it when they were used."""
        if self._day is not None and tokens:
            await asyncio.get_running_loop().run_in_executor(_BOOKKEEPER, self._day.spend, tokens)

    def hold(self, tokens: int) -> AbstractContextManager[None]:
        """Around what is being written for the caller, of which so many tokens may come: calls side by side share a
        day, and one alone may go over its end.

        Raises:
            ApiError: 429; the day has none left.
        """
        return nullcontext() if self._day is None else self._day.hold(tokens)


ANYONE = Key(id="anyone", name="anyone", hash="", scopes=SCOPES, created_at=0.0)


class Access:
    """Admits calls.

    Args:
        keys: whose calls; none admits everybody, with every scope.
        usage: tokens by key and day.
        requests_per_minute: of a key that has no limit of its own.
        origins: other web sites whose pages may call.
    """

    def __init__(
        self, keys: KeyBook | None, usage: UsageBook, requests_per_minute: int, origins: Sequence[str] = ()
    ) -> None:
        self._keys = keys
        self._usage = usage
        self._origins = origins
        self._held: dict[str, int] = {}
        self._rates = Rates(requests_per_minute)

    def admit(self, connection: HTTPConnection, scope: Scope) -> Principal:
        """The caller, once it is known, allowed and within its limits.

        Raises:
            ApiError: 401, 403 or 429.
        """
        if self._keys is None:
            self._check_origin(connection)
        key = ANYONE if self._keys is None else _known(self._keys, _presented(connection))
        if scope not in key.scopes:
            raise ApiError(
                403,
                "missing_scope",
                f"this needs the scope `{scope}`, and the key has {', '.join(key.scopes)}; "
                f"`steerline keys create NAME --scope {scope}` makes one that may",
            )
        self._rates.take(key.id, key.requests_per_minute)
        day = None if self._keys is None else Day(self._usage, key, self._held)
        if scope == "inference" and day is not None:
            day.check()
        return Principal(key.id, key.name, key.scopes, day)

    def _check_origin(self, connection: HTTPConnection) -> None:
        """Where no key is asked for, any page that somebody here looks at could call: browsers say whose page it is."""
        origin = connection.headers.get("origin")
        own = connection.headers.get("host", "")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != own:
            raise ApiError(
                403,
                "foreign_origin",
                "pages of other web sites may not call here; `access.cors_origins` names those that may",
            )


class Bearer(SecurityBase):
    """The scheme as OpenAPI describes it; unlike FastAPI's own it takes WebSockets too."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="A key that `steerline keys create` has made.")
        self.scheme_name = "key"

    async def __call__(self, connection: HTTPConnection) -> HTTPConnection:
        """The connection, for whoever admits it."""
        return connection


_bearer = Bearer()


def require(scope: Scope) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """A FastAPI dependency, for HTTP and WebSockets: the caller, which has this scope.

    A WebSocket's key may stand in the subprotocols as `steerline.key.<key>` beside `steerline.v1`, which is the one to
    accept with.
    """

    async def caller(connection: Annotated[HTTPConnection, Security(_bearer)]) -> Principal:
        access: Access = connection.app.state.access
        return access.admit(connection, scope)

    return caller


def _presented(connection: HTTPConnection) -> str:
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    offered = connection.scope.get("subprotocols", ())
    return next((p.removeprefix(SOCKET_KEY_PREFIX) for p in offered if p.startswith(SOCKET_KEY_PREFIX)), "")


def _known(keys: KeyBook, presented: str) -> Key:
    try:
        found = keys.find(presented) if presented else None
        if found is not None:
            return found
        any_there = bool(keys.entries())
    except AccessError as error:
        raise ApiError(503, "keys_unreadable", "the endpoint cannot read its keys; its log says more") from error
    if not any_there:
        raise ApiError(
            401, "no_keys", "this endpoint has no keys yet; where it runs, type `steerline keys create NAME`"
        )
    if not presented:
        raise ApiError(401, "missing_key", "this needs a key, sent as `Authorization: Bearer sk-steerline-...`")
    raise ApiError(401, "invalid_api_key", "this key is unknown, revoked or expired")
