"""How much: the length of bodies, calls at once, calls a minute. Beyond it callers are told when to come again."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.http.errors import ApiError

_PAUSE_S = 1.0
# Keys are few; this bounds what a long life collects.
_MOST_BUCKETS = 10_000


class Slots:
    """Room for so many calls at once, of which one key leaves some to the others.

    Args:
        count: how many.
        what: they are, for the message.
        share: of those that no other key holds, the share that one key may hold: at 0.5 the first to come holds half
            of all at most, the next half of what the first leaves, so that another one finds room.
    """

    def __init__(self, count: int, what: str, share: float = 1.0) -> None:
        self.count = count
        self._what = what
        self._share = share
        self._held: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many are held now."""
        return self._held.total()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Takes a slot for as long as the `with` block lasts.

        Raises:
            ApiError: 429; none is free, or the key holds its share.
        """
        if self.taken >= self.count:
            raise ApiError(
                429,
                "too_many_at_once",
                f"{self.count} {self._what} are open already, which is this endpoint's limit; try again later",
                retry_after_s=_PAUSE_S,
            )
        own = self._held[key]
        most = max(1, int(self._share * (self.count - self.taken + own)))
        if own >= most:
            raise ApiError(
                429,
                "share_taken",
                f"this key holds {own} of {self.count} {self._what}, and one key may hold {self._share:.0%} of those "
                "that no other holds (`limits.key_share`); end some, or try again later",
                retry_after_s=_PAUSE_S,
            )
        self._held[key] += 1
        try:
            yield
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]


async def text_slot(connection: HTTPConnection) -> AsyncIterator[None]:
    """A FastAPI dependency of calls that ask for text (`limits.in_flight`)."""
    slots: Slots = connection.app.state.texts
    async with slots.hold(connection.state.key.id):
        yield


async def stream_slot(connection: HTTPConnection) -> AsyncIterator[None]:
    """A FastAPI dependency of event streams and WebSockets (`limits.streams`)."""
    slots: Slots = connection.app.state.streams
    async with slots.hold(connection.state.key.id):
        yield


class Rates:
    """Calls a minute, by key: each has a bucket that holds a minute's calls and fills at their rate.

    Args:
        default: calls a minute of a key that has no rate of its own.
        clock: seconds.
    """

    def __init__(self, default: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._default = default
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, per_minute: int | None) -> None:
        """Count a call.

        Raises:
            ApiError: 429; the bucket is empty.
        """
        most = per_minute if per_minute is not None else self._default
        now = self._clock()
        left, since = self._buckets.get(key, (float(most), now))
        left = min(float(most), left + (now - since) * most / 60)
        if left < 1:
            raise ApiError(
                429,
                "rate_limit_exceeded",
                f"{most} calls a minute is this key's limit",
                retry_after_s=(1 - left) * 60 / most,
            )
        self._buckets[key] = (left - 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)


class BodyLimit:
    """ASGI middleware: a body that says it is too long is refused unread, one that turns out to be while it is read.

    Args:
        app: what it stands before.
        most_bytes: longest body.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said) > self._most:
            await self._too_long().response()(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._most:
                    raise self._too_long()
            return message

        await self._app(scope, counted, send)

    def _too_long(self) -> ApiError:
        return ApiError(413, "body_too_long", f"a body may have {self._most} bytes here (`limits.body_bytes`)")
