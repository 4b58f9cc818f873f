"""The port over a Serve handle, with a handle whose replica lives, dies or is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from services.http.errors import ApiError
from services.serve_backend import ServedBackend, ServeInference, limits_of
from steerline.config.inference import LocalBackendSpec, NoisyBackendSpec
from steerline.inference.request import Delta, GenRequest, GenResult
from steerline.serving.versions import RegistryAccess, Versions
from steerline.tracking.registry import Registered

REQUEST = GenRequest("parrot", prompt="one two three")


class Pieces:
    """A streamed answer of the handle."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items
        self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._items:
            if isinstance(item, Exception):
                raise item
            yield item

    def cancel(self) -> None:
        self.cancelled = True


class Answer:
    """An answer of the handle in one piece; none never comes."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self.cancelled = False

    def __await__(self) -> Any:
        return self._come().__await__()

    async def _come(self) -> Any:
        if self._value is None:
            await asyncio.Event().wait()
        if isinstance(self._value, Exception):
            raise self._value
        return self._value

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A handle whose every method gives this answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []
        self.routed: list[str] = []
        self.generate = self.stream = self.cards = self

    def options(self, *, stream: bool = False, multiplexed_model_id: str | None = None) -> Handle:
        if multiplexed_model_id is not None:
            self.routed.append(multiplexed_model_id)
        return self

    def remote(self, *given: Any) -> Any:
        self.asked += given
        return self.answer


def port(answer: Any, versions: Versions | None = None) -> tuple[ServeInference, Handle]:
    handle = Handle(answer)
    return ServeInference(handle, versions), handle  # type: ignore[arg-type]


def test_a_batch_is_one_call() -> None:
    results = [GenResult(text, "stop") for text in "abc"]
    inference, handle = port(Answer(results))
    backend = ServedBackend("parrot", inference, limits_of(NoisyBackendSpec(kind="noisy")))
    assert asyncio.run(backend.generate([REQUEST] * 3)) == results
    assert handle.asked == [[REQUEST] * 3]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(RayActorError(), "unavailable"), (BackPressureError(9, 8, 429, 2.5), "busy")],
)
def test_a_replica_that_died_or_is_full_is_a_failure_that_passes(error: Exception, kind: str) -> None:
    whole = asyncio.run(port(Answer(error))[0].generate([REQUEST] * 2))
    assert [result.failure.kind for result in whole if result.failure] == [kind, kind]
    assert all(result.failure is not None and result.failure.retryable for result in whole)

    async def last() -> Delta:
        return [piece async for piece in port(Pieces([Delta("one"), error]))[0].stream(REQUEST)][-1]

    piece = asyncio.run(last())
    assert piece.result is not None
    assert piece.result.failure == whole[0].failure
    with pytest.raises(ApiError) as caught:
        asyncio.run(port(Answer(error))[0].models())
    assert caught.value.status_code == 503


def test_a_fault_in_the_code_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(port(Answer(ZeroDivisionError()))[0].generate([REQUEST]))


def test_a_caller_that_goes_away_ends_the_call_on_its_replica() -> None:
    pieces, answer = Pieces([Delta("one"), Delta("two"), Delta("", result=GenResult("", "stop"))]), Answer(None)

    async def leave() -> None:
        stream = port(pieces)[0].stream(REQUEST)
        await anext(stream)
        await stream.aclose()
        task = asyncio.create_task(port(answer)[0].generate([REQUEST]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert pieces.cancelled
    assert answer.cancelled


def test_a_stream_that_ends_by_itself_is_not_cancelled() -> None:
    pieces = Pieces([Delta("one"), Delta("", result=GenResult("one", "stop"))])

    async def read() -> list[Delta]:
        return [piece async for piece in port(pieces)[0].stream(REQUEST)]

    assert len(asyncio.run(read())) == 2
    assert not pieces.cancelled


def test_a_call_holds_what_the_served_model_takes() -> None:
    local = LocalBackendSpec.model_validate(
        {"model": {"source": {"kind": "random", "architecture": "llama"}}, "max_batch": 7, "max_batch_tokens": 99}
    )
    limits = limits_of(local)
    assert (limits.max_batch, limits.max_batch_tokens) == (7, 99)
    assert limits.in_flight > 1


def test_a_registered_model_is_asked_for_by_its_version_where_that_is_and_made_up_ones_reach_no_replica() -> None:
    def find(reference: str) -> Registered | None:
        return None if reference.endswith("/9") else Registered("a", "2", None, "/weights")

    versions = Versions(("a",), RegistryAccess(find, lambda _: {}))
    inference, handle = port(Answer([GenResult("x", "stop")]), versions)
    streaming, streamed = port(Pieces([Delta("", result=GenResult("x", "stop"))]), versions)

    async def ask(model: str) -> list[str | None]:
        request = replace(REQUEST, model=model)
        whole = (await inference.generate([request]))[0].failure
        pieces = [piece.result for piece in [piece async for piece in streaming.stream(request)]]
        return [failure and failure.kind for failure in (whole, *(piece and piece.failure for piece in pieces))]

    for model in ("models:/a@champion", "models:/a/2", "parrot"):
        assert asyncio.run(ask(model)) == [None, None]
    for model in ("models:/a/9", "models:/b/1"):
        assert asyncio.run(ask(model)) == ["unknown_model"] * 2
    assert handle.routed == streamed.routed == ["models:/a/2"] * 2
    assert [request.model for (request,) in handle.asked] == ["models:/a/2", "models:/a/2", "parrot"]
