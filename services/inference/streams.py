"""Streamed answers: several at once, a status that knows the first piece, tokens that count if the client goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Protocol, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from services.http.access import Principal
from services.http.errors import ApiError
from services.http.standing import while_good
from services.inference.asking import reported, used
from services.inference.failures import error_of
from services.inference.port import Inference
from services.inference.responses import UsedTokens
from steerline.inference.request import Delta, GenRequest, GenResult

_DONE = "[DONE]"
_CHARACTERS_PER_TOKEN = 4
Numbered = AsyncGenerator[tuple[int, Delta], None]
C = TypeVar("C")


class Streamed(Protocol[C]):
    """One answer while it is written."""

    def pieces(self, delta: Delta) -> list[C]:
        """What can be shown after this piece of it."""
        ...


async def begun(source: Numbered, account: Account) -> Numbered:
    """The same pieces, once the first is there, so that what fails at once has a status of its own.

    Args:
        source: the pieces.
        account: of the tokens, which is settled where the first fails after something was computed.

    Raises:
        ApiError: the first piece is a failure.
    """
    first = await anext(source)
    result = first[1].result
    if result is not None and result.failure is not None:
        await source.aclose()
        if result.usage.prompt_tokens:
            account.settle()
        raise error_of(result.failure)
    return _continued(first, source)


async def deltas(inference: Inference, account: Account) -> Numbered:
    """The pieces of all answers as they come, each with the number of its request.

    A client that reads slowly does not hold the model up: what waits for it is at most the whole answer.

    Args:
        inference: writes them.
        account: says what is asked, and takes down what comes, whether or not it is read.
    """
    queue: asyncio.Queue[tuple[int, Delta] | asyncio.Task[None]] = asyncio.Queue()

    async def listen(index: int, request: GenRequest) -> None:
        async with aclosing(inference.stream(request)) as stream:
            async for delta in stream:
                account.note(index, delta)
                queue.put_nowait((index, delta))

    listening = [asyncio.create_task(listen(index, request)) for index, request in enumerate(account.requests)]
    for task in listening:
        task.add_done_callback(queue.put_nowait)
    left = len(listening)
    try:
        while left:
            item = await queue.get()
            if isinstance(item, asyncio.Task):
                left -= 1
                item.result()  # raises a fault of the stream
            else:
                yield item
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)


class Account:
    """The tokens of a stream. What a client that went away has used is estimated by its length.

    Args:
        caller: who pays.
        requests: what was asked.
    """

    def __init__(self, caller: Principal, requests: Sequence[GenRequest]) -> None:
        self.caller = caller
        self.requests = requests
        self._results: dict[int, GenResult] = {}
        self._written = [0] * len(requests)

    def note(self, index: int, delta: Delta) -> None:
        """Take down a piece."""
        self._written[index] += len(delta.text)
        if delta.result is not None:
            self._results[index] = delta.result

    @property
    def used(self) -> UsedTokens:
        """Of all answers, once they are there."""
        return reported(used(self.requests, [self._results[index] for index in range(len(self.requests))]))

    def settle(self) -> None:
        """Count it against the caller's day."""
        self.caller.spend(
            sum(
                self._results[index].usage.prompt_tokens + self._results[index].usage.completion_tokens
                if index in self._results
                else (sum(map(len, request.prefix)) + written) // _CHARACTERS_PER_TOKEN
                for index, (request, written) in enumerate(zip(self.requests, self._written, strict=True))
            )
        )


async def texts(
    source: Numbered,
    answers: Sequence[Streamed[C]],
    piece: Callable[[list[C], UsedTokens | None], BaseModel],
    account: Account,
    *,
    with_usage: bool,
) -> AsyncGenerator[str, None]:
    """The data of a stream's events, but for its end (`to_the_end`).

    Args:
        source: pieces of the answers.
        answers: one for each request.
        piece: what is sent, of what it adds and of the tokens.
        account: of the tokens.
        with_usage: whether a last piece says how many.

    Raises:
        ApiError: an answer has failed, or the caller's key is good no more.
    """
    async with aclosing(while_good(source, account.caller)) as pieces:
        async for index, delta in pieces:
            failure = None if delta.result is None else delta.result.failure
            if failure is not None:
                raise error_of(failure)
            for shown in answers[index].pieces(delta):
                yield piece([shown], None).model_dump_json()
    if with_usage:
        yield piece([], account.used).model_dump_json()


async def to_the_end(texts: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """The same data of events, why they break off if they do, and at last that it is over."""
    async with aclosing(texts):
        try:
            async for text in texts:
                yield text
        except Exception as error:  # noqa: BLE001  whatever it is, the client is told in the way that it can read
            yield json.dumps(ApiError.of_stream(error).body())
    yield _DONE


@contextmanager
def paid_if_left(account: Account) -> Iterator[None]:
    """What a client that goes away before there is any answer has asked for is counted too.

    Args:
        account: of the tokens.
    """
    try:
        yield
    except (ClientDisconnect, asyncio.CancelledError):
        account.settle()
        raise


async def _continued(first: tuple[int, Delta], rest: Numbered) -> Numbered:
    async with aclosing(rest):
        yield first
        async for item in rest:
            yield item
