"""Threads for what may compute for long, so that the event loop of a host stays free, and the way from them to models.

A tick computes for as long as its scenario likes, and nothing inside it gives way. In a thread of its own it shares the
interpreter with the others, a few milliseconds each.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from steerline.inference.client import Caller, InferenceClient, OnResult
from steerline.inference.request import GenRequest, GenResult

T = TypeVar("T")


def in_thread(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Start a function in a thread of its own; its outcome. Whoever cancels that no longer waits, and the work goes on.

    No process stays for its sake.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # from now on, it cannot be cancelled itself

    def run() -> None:
        try:
            outcome.set_result(work())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  whoever waits for the outcome raises it
            outcome.set_exception(error)
        except BaseException as error:  # noqa: BLE001  as `SystemExit`, it would end the event loop of whoever waits
            other = RuntimeError(repr(error))
            other.__cause__ = error
            outcome.set_exception(other)

    threading.Thread(target=run, name=name, daemon=True).start()
    return asyncio.wrap_future(outcome)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    """Have the event loop of another thread call something; nothing where it has closed, for nobody is there."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *args)


async def apart(work: Coroutine[Any, Any, T], name: str) -> T:
    """Run a coroutine in a thread and an event loop of its own. No process stays for its sake.

    Cancelling this cancels it there, and waits until it has ended; cancelling this again no longer waits.
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        begun.set_result((asyncio.get_running_loop(), task))
        return await work

    def run() -> T:
        # What never began is closed as well.
        with closing(work), closing(main()) as all_of_it:
            return asyncio.run(all_of_it)

    ended = in_thread(run, name)
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        there = asyncio.wrap_future(begun)
        # A thread may end before it has an event loop.
        either: set[asyncio.Future[Any]] = {there, ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            loop, task = there.result()
            _call(loop, task.cancel)
            await asyncio.wait({ended})
        raise
    finally:
        ended.cancel()


class DistantClient:
    """A client as those see it who are in another thread: all that it does, it does in its own event loop.

    Args:
        client: the client.
        loop: its event loop.
    """

    def __init__(self, client: InferenceClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases."""
        return self._client.models

    def caller(self, names: Mapping[str, str] | None = None) -> DistantCaller:
        """Somebody who can ask; see `InferenceClient.caller`."""
        return DistantCaller(self._client.caller(names), self._loop)


class DistantCaller:
    """A caller whose client is in another thread. See `Caller`.

    A host that has closed counts nobody, and whoever still computes for it ends as if it did.

    Args:
        caller: the one there.
        loop: the client's event loop.
    """

    def __init__(self, caller: Caller, loop: asyncio.AbstractEventLoop) -> None:
        self._caller = caller
        self._loop = loop

    def __enter__(self) -> Self:
        _call(self._loop, self._caller.__enter__)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _call(self._loop, self._caller.__exit__, None, None, None)

    @contextmanager
    def away(self) -> Iterator[None]:
        """While inside, waits for something other than a model."""
        there = self._caller.away()
        _call(self._loop, there.__enter__)
        try:
            yield
        finally:
            _call(self._loop, there.__exit__, None, None, None)

    async def ask_all(self, requests: Sequence[GenRequest], on_result: OnResult | None = None) -> list[GenResult]:
        """The answers, in order; `on_result` is called in this thread."""
        # Whoever was cancelled while it computed asks nobody any more.
        await asyncio.sleep(0)
        here = asyncio.get_running_loop()
        fresh: asyncio.Queue[tuple[int, GenResult] | None] = asyncio.Queue()

        def tell(one: tuple[int, GenResult] | None) -> None:
            _call(here, fresh.put_nowait, one)

        asked = asyncio.run_coroutine_threadsafe(
            self._caller.ask_all(requests, lambda index, result: tell((index, result))), self._loop
        )
        asked.add_done_callback(lambda _: tell(None))
        try:
            while (one := await fresh.get()) is not None:
                if on_result is not None:
                    on_result(*one)
        finally:
            # A loop that has closed holds no task that could be told.
            if not self._loop.is_closed():
                asked.cancel()
        # Cancelled there is cancelled here; a future of the other kind would say so by an ordinary exception.
        return await asyncio.wrap_future(asked)
