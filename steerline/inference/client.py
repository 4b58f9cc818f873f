"""The one place where requests of all simulations meet, one queue for each model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from steerline.config.inference import ClientSpec
from steerline.errors import InferenceError
from steerline.inference.request import Backend, GenRequest, GenResult

T = TypeVar("T")
OnResult = Callable[[int, GenResult], None]


class InferenceClient:
    """Batches what its callers ask and hands it to the backends."""

    def __init__(self, backends: Mapping[str, Backend], spec: ClientSpec | None = None) -> None:
        self._backends = dict(backends)
        self.spec = spec or ClientSpec()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for backend in self._backends.values():
            await backend.close()

    def caller(self) -> Caller:
        """Somebody who can ask; a `with` block around the time in which it may do so."""
        return Caller(self)

    def backend(self, model: str) -> Backend:
        """The backend of an alias.

        Raises:
            InferenceError: there is none.
        """
        if model not in self._backends:
            raise InferenceError("no model of this name", got=model, expected=", ".join(sorted(self._backends)))
        return self._backends[model]


class Caller:
    """One line of work: it runs, or waits for everything that it asked."""

    def __init__(self, client: InferenceClient) -> None:
        self._client = client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    async def ask(self, request: GenRequest) -> GenResult:
        """The answer to one request."""
        return (await self.ask_all([request]))[0]

    async def ask_all(
        self, requests: Sequence[GenRequest], on_result: OnResult = lambda _index, _result: None
    ) -> list[GenResult]:
        """The answers, in order.

        Args:
            requests: to any models.
            on_result: called with the index and the result of each as it comes, before the last one is there.
        """
        results: list[GenResult] = []
        for index, request in enumerate(requests):
            results += await self._client.backend(request.model).generate([request])
            on_result(index, results[-1])
        return results

    async def gather(self, works: Sequence[Callable[[Caller], Awaitable[T]]]) -> list[T]:
        """Runs several lines of work at once, each with a caller of its own, while this one waits for them."""
        return list(await asyncio.gather(*(work(self) for work in works)))
