"""A clock that jumps to whatever comes next, and a model server that keeps to it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from steerline.inference.request import BackendLimits, ChatMessage, GenRequest, GenResult

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever come")
        self.now += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Jumping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine at once, whatever it waits for. Nobody may wait for threads."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


class Server:
    """Answers a batch after `seconds`; keeps when each call came and what was in it."""

    def __init__(
        self,
        seconds: float = 1.0,
        limits: BackendLimits | None = None,
        answer: Callable[[GenRequest], GenResult] | None = None,
    ) -> None:
        self.limits = limits or BackendLimits()
        self.calls: list[tuple[float, list[GenRequest]]] = []
        self.under_way = self.most_under_way = 0
        self.closed = False
        self._seconds = seconds
        self._answer = answer or (lambda request: GenResult(f"re: {text_of(request)}", "stop"))

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        self.calls.append((now(), list(requests)))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self._seconds)
        self.under_way -= 1
        return [self._answer(request) for request in requests]

    async def close(self) -> None:
        self.closed = True

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for _, batch in self.calls]

    @property
    def times(self) -> list[float]:
        return [round(time, 6) for time, _ in self.calls]


def ask(text: str, simulation: str = "s", model: str = "m", **fields: Any) -> GenRequest:
    return GenRequest(model, (ChatMessage("user", text),), simulation=simulation, **fields)


def text_of(request: GenRequest) -> str:
    return request.messages[-1].content
