"""The one place where requests of all simulations meet: one queue for each model, and callers who run or wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from steerline.config.inference import ClientSpec
from steerline.errors import InferenceError
from steerline.inference.entry import Ticket
from steerline.inference.lane import Lane
from steerline.inference.request import Backend, GenRequest, GenResult

T = TypeVar("T")
OnResult = Callable[[int, GenResult], None]
Booked = Callable[[GenRequest, GenResult], None]
Work = Callable[["Caller"], Coroutine[Any, Any, T]]


class InferenceClient:
    """Batches what its callers ask and hands it to the backends.

    It knows who is running. As soon as all callers wait, nothing more can come that a batch could take along, and what
    waits starts at once: no fixed delay does as well. It belongs to one event loop, whose clock is its only one.

    Args:
        backends: by alias; the client closes them.
        spec: limits; none takes the defaults.
        booked: told of each request that was answered, or never will be, whether or not anybody still waits for it. An
            answer that several share comes once.
    """

    def __init__(
        self, backends: Mapping[str, Backend], spec: ClientSpec | None = None, booked: Booked | None = None
    ) -> None:
        self._spec = spec or ClientSpec()
        self._booked = booked or (lambda *_: None)
        self._lanes: dict[str, Lane] = {}
        for model, backend in backends.items():
            self.add(model, backend)
        self._running = 0
        self._looking = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends what is under way and closes the backends; whoever still waits is told with an `InferenceError`."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    def add(self, model: str, backend: Backend) -> None:
        """Reach another model, by an alias that is not taken; the client closes its backend."""
        assert model not in self._lanes, f"{model} is reached already"
        self._lanes[model] = Lane(model, backend, self._spec, self._booked, self.look)

    async def release(self, models: Collection[str]) -> None:
        """Reach these no more, and close their backends. Those stay for now of which an answer is still to come."""
        idle = [model for model in models if self._lanes[model].is_idle]
        for lane in [self._lanes.pop(model) for model in idle]:
            await lane.close()

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases."""
        return tuple(self._lanes)

    def caller(self, names: Mapping[str, str] | None = None) -> Caller:
        """Somebody who can ask: `with client.caller() as me: await me.ask(...)`.

        Args:
            names: what the caller calls a model, to its alias here; what is not named bears its alias.
        """
        return Caller(self, names or {})

    def lane(self, model: str) -> Lane:
        """The queue of an alias.

        Raises:
            InferenceError: there is none.
        """
        if model not in self._lanes:
            raise InferenceError("no model of this name", got=model, expected=", ".join(sorted(self._lanes)))
        return self._lanes[model]

    def look(self) -> None:
        """Starts what can start, once everything that is ready in the event loop has had its turn."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._pump)

    def count(self, change: int) -> None:
        """Somebody began or ceased to run."""
        self._running += change
        if self._running == 0:
            self.look()

    def _pump(self) -> None:
        self._looking = False
        for lane in self._lanes.values():
            lane.pump(complete=self._running == 0)


class Caller:
    """One line of work inside its `with` block: it runs, or waits for everything that it asked, or is away.

    Several tasks at once need a caller each, see `gather`.
    """

    def __init__(self, client: InferenceClient, names: Mapping[str, str]) -> None:
        self._client = client
        self._names = names
        self._open = False
        self._idle = 0  # reasons not to count as running

    def __enter__(self) -> Self:
        self._open = True
        self._client.count(1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open = False
        self._client.count(-1)

    @contextmanager
    def away(self) -> Iterator[None]:
        """While inside, waits for something other than a model, a person for example; nobody waits for it to ask."""
        self._rest()
        try:
            yield
        finally:
            self._resume()

    async def ask(self, request: GenRequest) -> GenResult:
        """The answer to one request. See `ask_all`."""
        return (await self.ask_all([request]))[0]

    async def ask_all(self, requests: Sequence[GenRequest], on_result: OnResult | None = None) -> list[GenResult]:
        """The answers, in order; one that stayed away after all attempts has `failure` set.

        Args:
            requests: to any models. If the caller is cancelled, those not under way yet are never sent.
            on_result: called here with index and result of each as it comes, before the last one is there.

        Raises:
            InferenceError: a request names no model of this client, or the client was closed.
            OverloadedError: the simulation has too much waiting already; nothing was sent.
        """
        assert self._open, "a caller asks inside its `with` block"
        requests = [self._addressed(request) for request in requests]
        lanes = [self._client.lane(request.model) for request in requests]
        for lane, simulation in {(lane, request.simulation) for lane, request in zip(lanes, requests, strict=True)}:
            lane.admit(simulation)
        if not requests:
            return []
        ticket = Ticket(len(requests), self._resume)
        self._rest()
        entries = [
            lane.put(request, ticket, index) for index, (lane, request) in enumerate(zip(lanes, requests, strict=True))
        ]
        self._client.look()
        seen = 0
        try:
            while seen < len(requests):
                fresh = await ticket.fresh()
                seen += len(fresh)
                if on_result is not None:
                    for index in fresh:
                        on_result(index, ticket.results[index])
        finally:
            if seen < len(requests):
                ticket.close()
                for lane, entry in zip(lanes, entries, strict=True):
                    lane.drop(entry)
        return [ticket.results[index] for index in range(len(requests))]

    async def gather(self, works: Sequence[Work[T]]) -> list[T]:
        """Runs several lines of work at once, each with a caller of its own, while this one is away.

        The first error ends the others and is raised.
        """
        loop = asyncio.get_running_loop()
        callers = [Caller(self._client, self._names) for _ in works]
        left = len(callers)

        def end(caller: Caller, _task: asyncio.Task[T]) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._resume()  # before the last one ends, lest it seem that nobody runs
            caller.__exit__(None, None, None)

        if not works:
            return []
        tasks = []
        self._rest()
        for caller, work in zip(callers, works, strict=True):
            caller.__enter__()
            tasks.append(loop.create_task(work(caller)))
            tasks[-1].add_done_callback(partial(end, caller))
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _addressed(self, request: GenRequest) -> GenRequest:
        name = self._names.get(request.model, request.model)
        return request if name == request.model else replace(request, model=name)

    def _rest(self) -> None:
        self._idle += 1
        if self._idle == 1:
            self._client.count(-1)

    def _resume(self) -> None:
        self._idle -= 1
        if self._idle == 0:
            self._client.count(1)
