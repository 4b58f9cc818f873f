"""Work for a client that may go away: it stops when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives.

    Args:
        request: its body has been read.
        work: is cancelled when the client goes away, and has ended when this returns.

    Raises:
        ClientDisconnect: nobody is there to take it.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """Server-sent events, one for each text. Their source is closed as soon as the client has gone.

    Args:
        texts: data of the events, each without line breaks; an empty one is a sign of life.
        held: is given back once all is sent, or the client has gone, also before anything is sent.
    """

    def __init__(
        self, texts: AsyncGenerator[str, None], held: AbstractAsyncContextManager[object] | None = None
    ) -> None:
        self._texts = texts
        self._held = nullcontext() if held is None else held
        super().__init__(_events(texts), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it all."""
        async with self._held, aclosing(self._texts):
            await super().__call__(scope, receive, send)


async def _events(texts: AsyncGenerator[str, None]) -> AsyncGenerator[bytes, None]:
    async for text in texts:
        yield b"data: " + text.encode() + b"\n\n" if text else b": still here\n\n"
