"""A model server without a model: a thread that takes whatever is queued, one batch at a time.

Contestants in other interpreters import it too, so it needs the standard library alone.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Self

START_S, ITEM_S, MOST = 0.020, 0.0005, 64
"""What a batch takes, what each of its items takes besides, and how many items it holds."""
RULES = "You have 20 coins. What you put into the pot is multiplied and shared among all. " * 12

Waiting = tuple[str, "asyncio.Future[str] | Future[str]"]


def answer(prompt: str) -> str:
    """What the model says: an amount that the prompt decides."""
    return f"ANSWER: {zlib.crc32(prompt.encode()) % 21}"


class Server:
    """The fake model, as its clients see it.

    Args:
        says: what it answers to a prompt.
    """

    def __init__(self, says: Callable[[str], str] = answer) -> None:
        self._says = says
        self._loop = asyncio.get_running_loop()
        self._queue: queue.Queue[Waiting | None] = queue.Queue()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()

    def ask(self, prompt: str) -> asyncio.Future[str]:
        """The answer to come, for a coroutine."""
        future: asyncio.Future[str] = self._loop.create_future()
        self._queue.put((prompt, future))
        return future

    def send(self, prompt: str) -> Future[str]:
        """The answer to come, for a thread."""
        future: Future[str] = Future()
        self._queue.put((prompt, future))
        return future

    def _serve(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < MOST and not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    self._queue.put(None)
                    break
                batch.append(item)
            time.sleep(START_S + ITEM_S * len(batch))
            # One call for the whole batch: waking the loop for each answer would cost more than the answers.
            self._loop.call_soon_threadsafe(self._deliver, batch)

    def _deliver(self, batch: Sequence[Waiting]) -> None:
        for prompt, future in batch:
            future.set_result(self._says(prompt))
