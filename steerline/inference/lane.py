"""One model's queue: when a batch starts, what is in it, and what becomes of its results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from steerline.config.inference import ClientSpec
from steerline.errors import InferenceError, OverloadedError
from steerline.inference.chance import uniform
from steerline.inference.concurrency import Concurrency
from steerline.inference.entry import Entry, Ticket
from steerline.inference.fair_queue import FairQueue
from steerline.inference.request import Backend, GenRequest, GenResult

_FIRST_GUESS_S = 1.0  # to come again, before anything has been answered
OnSettled = Callable[[GenRequest, GenResult], None]


class Lane:
    """The requests of one model. All times are of the event loop's clock.

    A batch starts when a call is free and one of three holds: it would be full; its oldest request has waited for the
    deadline; or the client says that nobody is running who could add to it.
    """

    def __init__(
        self, model: str, backend: Backend, spec: ClientSpec, on_settled: OnSettled, look: Callable[[], None]
    ) -> None:
        self.backend = backend
        self._model = model
        self._spec = spec
        self._on_settled = on_settled
        self._look = look
        self._limits = backend.limits
        self._concurrency = Concurrency(backend.limits)
        self._queue: FairQueue[Entry] = FairQueue()
        self._same: dict[str, Entry] = {}
        self._waiting = 0
        self._waiting_cost = 0
        self._waiting_of: dict[str, int] = {}
        self._deadline: asyncio.TimerHandle | None = None
        self._closed_until = float("-inf")
        self._calls: dict[asyncio.Task[list[GenResult]], list[Entry]] = {}
        self._later: dict[Entry, asyncio.TimerHandle] = {}
        self._answered = 0
        self._busy_since: float | None = None
        self._busy_s = 0.0

    def admit(self, simulation: str) -> None:
        """Refuses a simulation that has too much waiting already.

        Raises:
            OverloadedError: it has.
        """
        waiting = self._waiting_of.get(simulation, 0)
        if waiting >= self._spec.max_waiting:
            raise OverloadedError(
                "too many requests wait for this model",
                got=f"{waiting} for `{self._model}`",
                expected=f"less than {self._spec.max_waiting}",
                retry_after_s=self._seconds_to_answer(waiting),
            )

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and nothing is under way."""
        return not (self._waiting or self._calls or self._later)

    def put(self, request: GenRequest, ticket: Ticket, index: int) -> Entry:
        """Lets one request wait, or wait with its equal."""
        shared = request.sampling.temperature == 0
        entry = self._same.get(request.address) if shared else None
        if entry is None:
            entry = Entry(request)
            if shared:
                self._same[request.address] = entry
            self._enqueue(entry)
        elif entry.waiting and request.simulation != entry.request.simulation:
            # Its equal may stand far back in a long line; in its own it waits no longer than it would alone.
            self._queue.push(entry, request.simulation, request.weight)
        entry.waiters.append((ticket, index))
        return entry

    def drop(self, entry: Entry) -> None:
        """Takes out what nobody wants any more; what is under way is answered and not heard."""
        if entry.wanted:
            return
        if entry.waiting:
            entry.waiting = False
            self._leave(entry)
        elif entry in self._later:
            self._later.pop(entry).cancel()
        else:
            return
        self._forget(entry)

    def pump(self, *, complete: bool) -> None:
        """Starts the batches that may start now.

        Args:
            complete: what waits needs no more company, though a batch of it be small.
        """
        now = asyncio.get_running_loop().time()
        while self._may_start(now) and (complete or self._is_full()):
            self._start(now)
        self._watch(now)

    async def close(self) -> None:
        """Ends the calls under way; whoever still waits is told."""
        self._closed_until = float("inf")
        for timer in (self._deadline, *self._later.values()):
            if timer is not None:
                timer.cancel()
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for entry in [*self._queue.take(self._waiting, 1 << 62, 1 << 62), *self._later]:
            entry.fail(self._closed())
        await self.backend.close()

    def _closed(self) -> InferenceError:
        return InferenceError("the client was closed while requests waited", where=self._model)

    def _may_start(self, now: float) -> bool:
        return self._waiting > 0 and len(self._calls) < self._concurrency.limit and now >= self._closed_until

    def _is_full(self) -> bool:
        return self._waiting >= self._limits.max_batch or self._waiting_cost >= self._limits.max_batch_tokens

    def _watch(self, now: float) -> None:
        """Sets the deadline of what could start, unless it is set. A request that no call is free for has none: those
        whom the next results set free may join it."""
        loop = asyncio.get_running_loop()
        if self._waiting == 0 or len(self._calls) >= self._concurrency.limit:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        elif self._deadline is None and self._closed_until < float("inf"):
            at = max(now + self._spec.deadline_s, self._closed_until)
            self._deadline = loop.call_at(at, self._on_deadline)

    def _enqueue(self, entry: Entry, *, first: bool = False) -> None:
        entry.waiting = True
        request = entry.request
        self._queue.push(entry, request.simulation, request.weight, first=first)
        self._waiting += 1
        self._waiting_cost += entry.cost
        self._waiting_of[request.simulation] = self._waiting_of.get(request.simulation, 0) + 1

    def _leave(self, entry: Entry) -> None:
        self._waiting -= 1
        self._waiting_cost -= entry.cost
        left = self._waiting_of[entry.request.simulation] - 1
        if left:
            self._waiting_of[entry.request.simulation] = left
        else:
            del self._waiting_of[entry.request.simulation]

    def _on_deadline(self) -> None:
        self._deadline = None
        self.pump(complete=True)

    def _start(self, now: float) -> None:
        most, tokens = self._limits.max_batch, self._limits.max_batch_tokens
        # A batch's worth of tokens, by the mean of what waits.
        worth = min(tokens, most * self._waiting_cost / self._waiting)
        batch = self._queue.take(most, tokens, self._spec.turn * worth)
        for entry in batch:
            self._leave(entry)
        batch.sort(key=lambda entry: entry.request.prefix)
        if not self._calls:
            self._busy_since = now
        call = asyncio.get_running_loop().create_task(self._generate(batch))
        self._calls[call] = batch
        call.add_done_callback(partial(self._ended, now))

    async def _generate(self, batch: list[Entry]) -> list[GenResult]:
        results = await self.backend.generate([entry.request for entry in batch])
        if len(results) != len(batch):
            raise InferenceError(
                "a backend lost count",
                where=f"{type(self.backend).__name__} of `{self._model}`",
                got=f"{len(results)} results",
                expected=len(batch),
            )
        return results

    def _ended(self, started: float, call: asyncio.Task[list[GenResult]]) -> None:
        now = asyncio.get_running_loop().time()
        batch = self._calls.pop(call)
        if not self._calls and self._busy_since is not None:
            self._busy_s += now - self._busy_since
        error = self._closed() if call.cancelled() else call.exception()
        if error is not None:
            for entry in batch:
                self._forget(entry)
                entry.fail(error)
        else:
            for entry, result in zip(batch, call.result(), strict=True):
                self._take_result(entry, result, started, now)
        self._look()

    def _take_result(self, entry: Entry, result: GenResult, started: float, now: float) -> None:
        entry.attempts += 1
        failure = result.failure
        if failure is None:
            self._concurrency.succeeded()
            self._answered += 1
        elif failure.kind in {"busy", "timeout"}:
            self._concurrency.was_busy(started, now)
        if failure is not None and failure.retryable and entry.attempts < self._spec.max_attempts and entry.wanted:
            self._retry(entry, failure.retry_after_s, now)
            return
        self._forget(entry)
        answer = result if entry.attempts == 1 else replace(result, attempts=entry.attempts)
        self._on_settled(entry.request, answer)
        entry.settle(answer)

    def _retry(self, entry: Entry, asked_s: float | None, now: float) -> None:
        loop = asyncio.get_running_loop()
        pause = min(self._spec.max_backoff_s, self._spec.backoff_s * 2 ** (entry.attempts - 1))
        # From half the pause to all of it, by the request alone: a run's pauses are the same when it runs again.
        pause *= (1 + uniform(entry.request.address, entry.request.call, entry.attempts)) / 2
        if asked_s is not None:
            # The server speaks for all calls, not for this one.
            self._closed_until = max(self._closed_until, now + asked_s)
            pause = max(pause, asked_s)
        self._later[entry] = loop.call_at(now + pause, self._again, entry)

    def _again(self, entry: Entry) -> None:
        del self._later[entry]
        entry.request = replace(entry.request, attempt=entry.attempts)
        self._enqueue(entry, first=True)
        self._look()

    def _forget(self, entry: Entry) -> None:
        if entry.request.sampling.temperature == 0:
            del self._same[entry.request.address]

    def _seconds_to_answer(self, waiting: int) -> float:
        if self._answered == 0:
            return _FIRST_GUESS_S
        now = asyncio.get_running_loop().time()
        running = now - self._busy_since if self._calls and self._busy_since is not None else 0.0
        return waiting * (self._busy_s + running) / self._answered
