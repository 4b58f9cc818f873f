"""Work in threads of its own: it ends as it would here, can be cancelled, and asks models that are asked elsewhere."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from steerline.errors import LeaseError
from steerline.inference.client import Caller, InferenceClient
from steerline.inference.request import ChatMessage, GenRequest, GenResult
from steerline.serving.threads import DistantCaller, DistantClient, apart
from tests.unit.simulation.worlds import Server


def request(agent: str) -> GenRequest:
    return GenRequest(model="m", messages=(ChatMessage("user", "Hm?"),), simulation="s", agent=agent)


def test_work_ends_in_its_thread_as_it_would_here() -> None:
    async def where() -> int:
        return threading.get_ident()

    async def fails() -> None:
        raise LeaseError("another one has it")

    async def here() -> None:
        assert await apart(where(), "work") != threading.get_ident()
        with pytest.raises(LeaseError):
            await apart(fails(), "work")

    asyncio.run(here())


def test_whoever_cancels_work_waits_until_it_has_ended() -> None:
    begun, told = threading.Event(), []

    async def works() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append("ended")

    async def here() -> None:
        task = asyncio.create_task(apart(works(), "work"))
        await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told == ["ended"]

    asyncio.run(here())


def test_what_ends_processes_ends_no_event_loop_of_whoever_waits() -> None:
    async def leaves() -> None:
        raise SystemExit(1)

    async def here() -> None:
        with pytest.raises(RuntimeError, match=r"SystemExit\(1\)"):
            await apart(leaves(), "work")

    asyncio.run(here())


def test_work_that_ends_while_it_is_cancelled_is_cancelled() -> None:
    begun, free = threading.Event(), threading.Event()

    async def works() -> None:
        begun.set()
        free.wait(20)

    async def here() -> None:
        task = asyncio.create_task(apart(works(), "ending work"))
        await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        free.set()
        for thread in threading.enumerate():
            if thread.name == "ending work":
                thread.join(20)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(here())


def test_work_that_never_gets_an_event_loop_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, free = threading.Event(), threading.Event()

    def fails(_: object) -> None:
        tried.set()
        free.wait(20)
        raise OSError("too many open files")

    async def works() -> None:
        pass

    async def here() -> None:
        monkeypatch.setattr(asyncio, "run", fails)
        task = asyncio.create_task(apart(works(), "work"))
        await asyncio.to_thread(tried.wait, 20)
        task.cancel()
        await asyncio.sleep(0)
        free.set()
        done, _ = await asyncio.wait({task}, timeout=60)
        assert done
        assert task.cancelled()

    asyncio.run(here())


def test_work_that_was_cancelled_while_it_computed_asks_nobody() -> None:
    server, begun, free = Server(), threading.Event(), threading.Event()

    async def asks(client: DistantClient) -> None:
        with client.caller() as caller:
            begun.set()
            free.wait(20)
            await caller.ask_all([request("a")])

    async def here() -> None:
        async with InferenceClient({"m": server}) as client:
            task = asyncio.create_task(apart(asks(DistantClient(client, asyncio.get_running_loop())), "work"))
            await asyncio.to_thread(begun.wait, 20)
            task.cancel()
            # What it asked before it heard of that would be under way by then.
            asyncio.get_running_loop().call_later(0.02, free.set)
            with pytest.raises(asyncio.CancelledError):
                await task
        assert server.asked == []

    asyncio.run(here())


def test_a_client_that_cancels_what_it_is_asked_cancels_the_work() -> None:
    async def asks(client: DistantClient) -> None:
        with client.caller() as caller, pytest.raises(asyncio.CancelledError):
            await caller.ask_all([request("a")])

    async def here() -> None:
        class Cancelled(Server):
            async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
                next(task for task in asyncio.all_tasks() if "ask_all" in repr(task)).cancel()
                return await super().generate(requests)

        async with InferenceClient({"m": Cancelled()}) as client:
            await apart(asks(DistantClient(client, asyncio.get_running_loop())), "work")

    asyncio.run(here())


def test_models_are_asked_in_their_own_loop_and_answers_are_heard_where_the_work_is() -> None:
    server, heard = Server(), dict[int, int]()

    async def asks(client: DistantClient) -> list[GenResult]:
        with client.caller() as caller:
            with caller.away():
                await asyncio.sleep(0)
            return await caller.ask_all(
                [request("a"), request("b")], lambda index, _: heard.update({index: threading.get_ident()})
            )

    async def here() -> None:
        async with InferenceClient({"m": server}) as client:
            distant = DistantClient(client, asyncio.get_running_loop())
            assert distant.models == ("m",)
            answers = await apart(asks(distant), "work")
        assert [answer.failure for answer in answers] == [None, None]
        assert set(heard) == {0, 1}
        assert threading.get_ident() not in heard.values()

    asyncio.run(here())


def test_an_error_about_an_answer_is_raised_where_it_was_asked_for() -> None:
    def refuses(index: int, result: GenResult) -> None:
        raise LeaseError("another one has it")

    async def asks(client: DistantClient) -> None:
        with client.caller() as caller, pytest.raises(LeaseError):
            await caller.ask_all([request("a")], refuses)

    async def here() -> None:
        async with InferenceClient({"m": Server()}) as client:
            await apart(asks(DistantClient(client, asyncio.get_running_loop())), "work")

    asyncio.run(here())


def test_whoever_outlives_the_host_leaves_its_client_without_a_word() -> None:
    loop = asyncio.new_event_loop()
    with DistantClient(InferenceClient({}), loop).caller() as caller, caller.away():
        loop.close()


def test_an_answer_that_comes_when_the_works_event_loop_has_closed_is_nobodys() -> None:
    begun, gone, told = threading.Event(), threading.Event(), threading.Event()

    class Late:
        async def ask_all(self, requests: Sequence[GenRequest], on_result: Callable[[int, Any], None]) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.to_thread(gone.wait, 20)
                on_result(0, "an answer")
                told.set()

    async def here() -> None:
        caller = DistantCaller(cast("Caller", Late()), asyncio.get_running_loop())
        task = asyncio.create_task(apart(caller.ask_all([request("a")]), "work"))
        await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gone.set()
        assert await asyncio.to_thread(told.wait, 20)

    asyncio.run(here())


def test_whoever_is_cancelled_after_its_host_has_closed_while_it_waited_ends_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, loop = threading.Event(), asyncio.new_event_loop()
    host = threading.Thread(target=loop.run_forever)
    host.start()

    class Silent:
        async def ask_all(self, requests: Sequence[GenRequest], on_result: object) -> None:
            begun.set()
            await asyncio.Event().wait()

    async def here() -> None:
        asked = asyncio.create_task(DistantCaller(cast("Caller", Silent()), loop).ask_all([request("a")]))
        await asyncio.to_thread(begun.wait, 20)
        await asyncio.to_thread(close)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    def close() -> None:
        loop.call_soon_threadsafe(loop.stop)
        host.join(20)
        loop.close()

    asyncio.run(here())
    assert not caplog.records
    # The task that the host left behind is gone before another test can hear of that.
    gc.collect()
