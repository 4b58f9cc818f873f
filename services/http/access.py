"""Who calls: bearer keys, what each may do, and how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from services.http.days import Day
from services.http.errors import ApiError, refuse
from services.http.limits import Rates
from services.http.paths import routed
from steerline.config.serving import AccessSpec
from steerline.errors import AccessError
from steerline.serving.keys import SCOPES, Key, KeyBook, Scope
from steerline.serving.usage import UsageBook

# Browsers cannot give a WebSocket headers of their own, but subprotocols.
SOCKET_PROTOCOL = "steerline.v1"
SOCKET_KEY_PREFIX = "steerline.key."
GUARDED = "/v1/"
"""Paths whose callers must be known."""


@dataclass(frozen=True)
class Principal:
    """Who made a call."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    _day: Day | None = field(default=None, repr=False, compare=False)
    _confirm: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    @property
    def payer(self) -> str | None:
        """Id of the key whose day tokens count against; none where no keys are asked for."""
        return None if self._day is None else self.key_id

    def spend(self, tokens: int) -> None:
        """Count tokens, prompt and completion together, against the key's day. Call it when they were used."""
        if self._day is not None and tokens:
            self._day.spend(tokens)

    async def check(self) -> None:
        """See that the day has tokens left.

        Raises:
            ApiError: 429; it has none. 503; that cannot be found out now.
        """
        if self._day is not None:
            await self._day.check()

    def hold(self, tokens: int) -> AbstractAsyncContextManager[None]:
        """Around what is being written for the caller, of which so many tokens may come: calls side by side share a
        day, and one alone may go over its end.

        Raises:
            ApiError: as for `check`.
        """
        return nullcontext() if self._day is None else self._day.hold(tokens)

    def confirm(self) -> None:
        """See that the key is still good, for calls that take long.

        Raises:
            ApiError: 401; it was revoked, or has expired.
        """
        self._confirm()


ANYONE = Key(id="anyone", name="anyone", hash="", scopes=SCOPES, created_at=0.0)


class Access:
    """Admits calls: whoever makes one is identified first, before anything of the body is read, and then allowed.

    Args:
        spec: who may call.
        keys: those that are asked for, if any are.
        usage: tokens by key and day.
        requests_per_minute: of a key that has no limit of its own.
    """

    def __init__(self, spec: AccessSpec, keys: KeyBook, usage: UsageBook, requests_per_minute: int) -> None:
        self._spec = spec
        self._hosts = frozenset(name.lower() for name in spec.hosts)
        self._keys = keys
        self._usage = usage
        self._rates = Rates(requests_per_minute)

    def admit(self, connection: HTTPConnection, scope: Scope) -> Principal:
        """The caller, once it is known, within its rate, and allowed.

        Raises:
            ApiError: 401, 403, 429 or 503.
        """
        return self.allow(self.identify(connection), scope)

    def identify(self, connection: HTTPConnection) -> Key:
        """Whose call it is, once it is within its rate.

        Raises:
            ApiError: 401, unknown; 403, a page of another site; 429, too often; 503, the keys cannot be read.
        """
        if self._spec.required:
            key = _known(self._keys, _presented(connection))
        else:
            self._check_site(connection)
            key = ANYONE
        self._rates.take(key.id, key.requests_per_minute)
        return key

    def allow(self, key: Key, scope: Scope) -> Principal:
        """The caller, if its key has a scope.

        Raises:
            ApiError: 403; it has not.
        """
        if scope not in key.scopes:
            raise ApiError(
                403,
                "missing_scope",
                f"this needs the scope `{scope}`, and the key has {', '.join(key.scopes)}; "
                f"`steerline keys create NAME --scope {scope}` makes one that may",
            )
        if not self._spec.required:
            return Principal(key.id, key.name, key.scopes)
        day = Day(self._usage, key)
        return Principal(key.id, key.name, key.scopes, day, partial(_confirm, self._keys, key))

    def _check_site(self, connection: HTTPConnection) -> None:
        """Where no key is asked for, any page that somebody here looks at could call: browsers say whose page it is,
        and by which name they found this machine, which another site's server may have given them."""
        origin, host = connection.headers.get("origin"), connection.headers.get("host", "")
        if not _is_loopback(host) and _name(host) not in self._hosts:
            raise ApiError(
                403,
                "foreign_host",
                "without keys this endpoint answers under the names of loopback alone, such as 127.0.0.1 and "
                "localhost; `access.hosts` adds others",
            )
        if origin is not None and origin not in self._spec.cors_origins and origin.partition("://")[2] != host:
            raise ApiError(
                403,
                "foreign_origin",
                "pages of other web sites may not call here; `access.cors_origins` names those that may",
            )


class Admission:
    """ASGI middleware: who is unknown or calls too often is refused before anything of the body is read.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] in ("http", "websocket") and routed(scope).startswith(GUARDED):
            connection = HTTPConnection(scope)
            access: Access = connection.app.state.access
            try:
                connection.state.key = access.identify(connection)
            except ApiError as error:
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)


class Bearer(SecurityBase):
    """The scheme as OpenAPI describes it; unlike FastAPI's own it takes WebSockets too."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="A key that `steerline keys create` has made.")
        self.scheme_name = "key"

    async def __call__(self, connection: HTTPConnection) -> HTTPConnection:
        """The connection, for whoever admits it."""
        return connection


_bearer = Bearer()


def require(scope: Scope, *, asks_models: bool = False) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """A FastAPI dependency, for HTTP and WebSockets under `GUARDED`: the caller, which has this scope.

    A WebSocket's key may stand in the subprotocols as `steerline.key.<key>` beside `steerline.v1`, which is the one to
    accept with.

    Args:
        scope: what the caller must be allowed to do.
        asks_models: whether models are asked because of the call, so that the caller's day must have tokens left.
    """

    async def caller(connection: Annotated[HTTPConnection, Security(_bearer)]) -> Principal:
        access: Access = connection.app.state.access
        principal = access.allow(connection.state.key, scope)
        if asks_models:
            await principal.check()
        return principal

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
        raise _unreadable() from error
    if not any_there:
        raise ApiError(
            401, "no_keys", "this endpoint has no keys yet; where it runs, type `steerline keys create NAME`"
        )
    if not presented:
        raise ApiError(401, "missing_key", "this needs a key, sent as `Authorization: Bearer sk-steerline-...`")
    raise ApiError(401, "invalid_api_key", "this key is unknown, revoked or expired")


def _confirm(keys: KeyBook, key: Key) -> None:
    try:
        is_good = keys.entry(key.id) == key
    except AccessError as error:
        raise _unreadable() from error
    if not is_good:
        raise ApiError(401, "invalid_api_key", "this key was revoked, or has expired")


def _unreadable() -> ApiError:
    return ApiError(503, "keys_unreadable", "the endpoint cannot read its keys; its log says more", retry_after_s=1.0)


def _name(host: str) -> str:
    """The name in a `Host` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    name = _name(host)
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
