from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from steerline.config.inference import ClientSpec, SamplingSpec
from steerline.errors import InferenceError, OverloadedError
from steerline.inference.client import Caller, InferenceClient
from steerline.inference.request import BackendLimits, Failure, GenRequest, GenResult, Usage
from tests.unit.inference.virtual import Server, ask, now, run, text_of

LATE = ClientSpec(deadline_s=100.0)
WARM = SamplingSpec(temperature=1.0)


def test_answers_come_in_the_order_of_the_requests_and_each_is_told_as_it_comes() -> None:
    server, told = Server(limits=BackendLimits(max_batch=2)), []

    async def main() -> list[GenResult]:
        async with InferenceClient({"m": server}) as client:
            with client.caller() as me:
                return await me.ask_all(
                    [ask(text) for text in "dbca"], lambda index, result: told.append((now(), index, result.text))
                )

    assert [result.text for result in run(main)] == ["re: d", "re: b", "re: c", "re: a"]
    assert [time for time, _, _ in told] == [1, 1, 2, 2]
    assert {(index, text) for _, index, text in told} == {(0, "re: d"), (1, "re: b"), (2, "re: c"), (3, "re: a")}
    assert server.closed


def test_a_batch_starts_as_soon_as_everybody_waits() -> None:
    server = Server()

    async def think_and_ask(me: Caller, seconds: float) -> float:
        await asyncio.sleep(seconds)
        await me.ask(ask(f"after {seconds}"))
        return now()

    async def main() -> list[float]:
        async with InferenceClient({"m": server}, LATE) as client:
            with client.caller() as me:
                return await me.gather([lambda c, s=s: think_and_ask(c, s) for s in (0.0, 0.25, 0.5)])

    assert run(main) == [1.5] * 3
    assert server.times == [0.5]
    assert server.sizes == [3]


def test_whoever_gathered_others_runs_again_when_the_last_has_ended() -> None:
    server = Server()

    async def gathers(me: Caller) -> None:
        await me.gather([lambda c: c.ask(ask("first"))])
        await asyncio.sleep(0.5)
        await me.ask(ask("then"))

    async def waits(me: Caller) -> None:
        with me.away():
            await asyncio.sleep(1.2)
        await me.ask(ask("beside"))

    async def main() -> None:
        async with InferenceClient({"m": server}, LATE) as client:
            with client.caller() as me:
                await me.gather([gathers, waits])

    run(main)
    assert server.times == [0.0, 1.5]
    assert server.sizes == [1, 2]


def test_nobody_waits_for_a_caller_who_is_away() -> None:
    server = Server()

    async def main() -> float:
        async with InferenceClient({"m": server}, LATE) as client:
            with client.caller() as me, client.caller() as person, person.away():
                await me.ask(ask("hello"))
                return now()

    assert run(main) == 1.0


def test_a_batch_waits_no_longer_than_the_deadline_for_those_who_run() -> None:
    server = Server()

    async def main() -> None:
        async with InferenceClient({"m": server}, ClientSpec(deadline_s=0.01)) as client:
            with client.caller() as me, client.caller():
                await me.ask(ask("hello"))

    run(main)
    assert server.times == [0.01]


def test_a_full_batch_waits_for_nobody() -> None:
    server = Server(limits=BackendLimits(max_batch=3, in_flight=4))

    async def main() -> None:
        async with InferenceClient({"m": server}, LATE) as client:
            with client.caller(), client.caller() as me:
                await asyncio.wait_for(me.ask_all([ask(str(n)) for n in range(6)]), 50)

    run(main)
    assert server.times == [0, 0]
    assert server.sizes == [3, 3]


def test_a_batch_is_full_by_tokens_too_and_a_request_beyond_the_limit_goes_alone() -> None:
    long, short = ask("x" * 4000), [ask(f"{n}" * 40) for n in range(3)]
    server = Server(limits=BackendLimits(max_batch_tokens=300))

    async def main() -> None:
        async with InferenceClient({"m": server}) as client:
            with client.caller() as me:
                await me.ask_all([*short, long])

    run(main)
    assert [sum(r.cost for r in batch) for _, batch in server.calls] == [276, 138, long.cost]


def test_what_came_while_a_batch_ran_lets_the_answered_callers_join() -> None:
    server = Server(limits=BackendLimits(max_batch=8))

    async def two_turns(me: Caller, name: str) -> None:
        for turn in range(2):
            await me.ask(ask(f"{name}{turn}"))
            await asyncio.sleep(0.004)

    async def late(me: Caller) -> None:
        await asyncio.sleep(0.5)
        await me.ask(ask("late"))

    async def main() -> None:
        async with InferenceClient({"m": server}, ClientSpec(deadline_s=0.01)) as client:
            with client.caller() as me:
                await me.gather([lambda c: two_turns(c, "a"), lambda c: two_turns(c, "b"), late])

    run(main)
    assert server.sizes == [2, 3]


def test_several_calls_are_under_way_where_the_backend_says_so() -> None:
    server = Server(limits=BackendLimits(max_batch=1, in_flight=3))

    async def main() -> float:
        async with InferenceClient({"m": server}) as client:
            with client.caller() as me:
                await me.ask_all([ask(str(n)) for n in range(9)])
                return now()

    assert run(main) == 3.0
    assert server.most_under_way == 3


def test_models_have_queues_of_their_own() -> None:
    slow, fast = Server(9.0), Server(1.0)

    async def main() -> list[float]:
        ends: list[float] = []
        async with InferenceClient({"slow": slow, "fast": fast}) as client:
            with client.caller() as me:
                requests = [ask("a", model="slow"), ask("a", model="fast"), ask("b", model="fast")]
                await me.ask_all(requests, lambda _index, _result: ends.append(now()))
        return ends

    assert run(main) == [1, 1, 9]


def test_a_run_of_ten_thousand_agents_cannot_starve_a_debate() -> None:
    server = Server(limits=BackendLimits(max_batch=64))

    async def huge(me: Caller) -> None:
        await me.ask_all([ask(f"agent {n}", "huge") for n in range(10_000)])

    async def debate(me: Caller) -> float:
        await asyncio.sleep(0.5)  # the huge run has queued everything by now
        for turn in range(3):
            await me.ask_all([ask(f"{turn} {n}", "debate") for n in range(3)])
        return now()

    async def main() -> float:
        async with InferenceClient({"m": server}) as client:
            with client.caller() as me:
                return (await me.gather([huge, debate]))[1]

    # Each of the three turns waits for the batch under way, at most one more of the huge run, and its own.
    assert run(main) <= 9.0
    assert all(size == 64 for size in server.sizes[:100])


def test_a_batch_is_ordered_by_what_its_requests_begin_with() -> None:
    server = Server()

    async def main() -> None:
        async with InferenceClient({"m": server}) as client:
            with client.caller() as me:
                await me.ask_all([ask(f"{role} {n}", f"s{n}") for n in range(3) for role in ("judge", "debater")])

    run(main)
    texts = [text_of(request) for request in server.calls[0][1]]
    assert texts == sorted(texts)


def test_identical_requests_at_temperature_0_are_sent_once_and_paid_once() -> None:
    server = Server(answer=lambda request: GenResult("4", "stop", Usage(10, 1)))

    booked: list[GenResult] = []

    async def main() -> list[GenResult]:
        async with InferenceClient({"m": server}, booked=lambda _, result: booked.append(result)) as client:
            with client.caller() as me:
                return await me.ask_all([ask("2 + 2"), ask("2 + 2"), ask("3 + 3")])

    results = run(main)
    assert server.sizes == [2]
    assert [result.text for result in results] == ["4"] * 3
    assert [result.coalesced for result in results] == [False, True, False]
    assert [result.usage for result in booked] == [Usage(10, 1)] * 2


def test_identical_requests_join_one_that_is_under_way() -> None:
    server = Server()

    async def later(me: Caller) -> float:
        await asyncio.sleep(0.5)
        await me.ask(ask("same", "other"))
        return now()

    async def main() -> float:
        async with InferenceClient({"m": server}, ClientSpec(deadline_s=0)) as client:
            with client.caller() as me:
                return (await me.gather([lambda c: c.ask(ask("same")), later]))[1]

    assert run(main) == 1.0
    assert server.sizes == [1]


def test_a_request_that_joins_its_equal_far_back_in_a_long_line_keeps_its_own_turn() -> None:
    server = Server(limits=BackendLimits(max_batch=8))

    async def main() -> float:
        async with InferenceClient({"m": server}, ClientSpec(turn=0.5)) as client:
            with client.caller() as me:
                crowd = [lambda c, n=n: c.ask(ask(f"{n}", "huge")) for n in range(100)]
                await me.gather([*crowd, lambda c: c.ask(ask("99", "debate"))])
        return next(time for time, batch in server.calls if any(text_of(request) == "99" for request in batch))

    assert run(main) == 0.0
    assert sum(server.sizes) == 100


@pytest.mark.parametrize("change", [{"sampling": WARM}, {"sampling": WARM, "seed": 1}])
def test_drawn_answers_are_never_shared(change: dict[str, object]) -> None:
    server = Server()

    async def main() -> None:
        async with InferenceClient({"m": server}) as client:
            with client.caller() as me:
                await me.ask_all([ask("dice", **change), ask("dice", **change)])

    run(main)
    assert server.sizes == [2]


def failing(times: int, failure: Failure) -> Callable[[GenRequest], GenResult]:
    left = times

    def answer(_request: GenRequest) -> GenResult:
        nonlocal left
        left -= 1
        return GenResult.failed(failure) if left >= 0 else GenResult("at last", "stop")

    return answer


def test_a_busy_server_is_asked_again_after_growing_pauses_with_the_same_request() -> None:
    server = Server(0.0, answer=failing(3, Failure("busy", "too many requests")))

    async def main() -> GenResult:
        async with InferenceClient({"m": server}, ClientSpec(backoff_s=1.0)) as client:
            with client.caller() as me:
                return await me.ask(ask("hello", call="3/alice/0"))

    result = run(main)
    assert (result.text, result.attempts) == ("at last", 4)
    assert {request.call for _, batch in server.calls for request in batch} == {"3/alice/0"}
    pauses = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(pauses))


def test_pauses_are_the_same_when_a_run_is_repeated_and_differ_between_requests() -> None:
    def times(text: str) -> list[float]:
        server = Server(0.0, answer=failing(2, Failure("busy", "too many requests")))

        async def main() -> None:
            async with InferenceClient({"m": server}) as client:
                with client.caller() as me:
                    await me.ask(ask(text))

        run(main)
        return server.times

    assert times("a") == times("a") != times("b")


def test_no_call_is_made_before_the_server_says() -> None:
    server = Server(0.0, answer=failing(1, Failure("busy", "too many requests", retry_after_s=7.0)))

    async def later(me: Caller) -> None:
        await asyncio.sleep(1.0)
        await me.ask(ask("another"))

    async def main() -> None:
        async with InferenceClient({"m": server}, ClientSpec(deadline_s=0)) as client:
            with client.caller() as me:
                await me.gather([lambda c: c.ask(ask("one")), later])

    run(main)
    assert server.times[0] == 0
    assert min(server.times[1:]) >= 7.0


def test_a_refused_request_is_not_repeated_and_attempts_end() -> None:
    refused = Server(0.0, answer=lambda _: GenResult.failed(Failure("refused", "no such model")))
    never = Server(0.0, answer=lambda _: GenResult.failed(Failure("unavailable", "connection lost")))

    booked: list[GenResult] = []

    async def main() -> list[GenResult]:
        spec = ClientSpec(max_attempts=3)
        async with InferenceClient({"r": refused, "n": never}, spec, lambda _, result: booked.append(result)) as client:
            with client.caller() as me:
                return await me.ask_all([ask("a", model="r"), ask("a", model="n")])

    results = run(main)
    assert [(result.failure.kind, result.attempts) for result in results if result.failure] == [
        ("refused", 1),
        ("unavailable", 3),
    ]
    assert (refused.sizes, never.sizes, len(booked)) == ([1], [1, 1, 1], 2)


def test_the_number_of_calls_grows_with_success_and_halves_once_for_one_congestion() -> None:
    most = 10  # what the server bears at once

    def answer(_request: GenRequest) -> GenResult:
        busy = server.under_way >= most
        return GenResult.failed(Failure("busy", "too many requests")) if busy else GenResult("ok", "stop")

    server = Server(1.0, BackendLimits(max_batch=1, in_flight=1000, adaptive=True), answer)
    spec = ClientSpec(max_attempts=1000, backoff_s=0.1)

    async def main() -> None:
        async with InferenceClient({"m": server}, spec) as client:
            with client.caller() as me:
                await me.ask_all([ask(str(n)) for n in range(400)])

    run(main)
    starts = [sum(time == t for t in server.times) for time in sorted(set(server.times))]
    assert starts[0] == 4
    assert server.most_under_way <= most + 2
    assert len(server.calls) < 1.3 * 400


def test_a_caller_that_gives_up_takes_its_waiting_requests_along() -> None:
    server = Server(limits=BackendLimits(max_batch=1))

    async def main() -> str:
        async with InferenceClient({"m": server}) as client:
            with client.caller() as me:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(me.ask_all([ask(str(n)) for n in range(100)]), 2.5)
                return (await me.ask(ask("next"))).text

    assert run(main) == "re: next"
    assert len(server.calls) == 4


def test_giving_up_on_a_shared_request_leaves_it_to_the_other() -> None:
    server = Server(limits=BackendLimits(max_batch=1))

    async def impatient(me: Caller) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(me.ask_all([ask("first"), ask("same", "a")]), 0.5)

    async def patient(me: Caller) -> str:
        return (await me.ask(ask("same", "b"))).text

    async def main() -> str:
        async with InferenceClient({"m": server}) as client:
            with client.caller() as me:
                return (await me.gather([impatient, patient]))[1]

    assert run(main) == "re: same"


def test_too_much_waiting_is_refused_with_the_time_until_there_is_room() -> None:
    server = Server(limits=BackendLimits(max_batch=1))

    async def main() -> float:
        async with InferenceClient({"m": server}, ClientSpec(max_waiting=10)) as client:
            with client.caller() as me, client.caller() as other:
                for n in range(2):
                    await me.ask(ask(f"warm {n}"))
                crowd = asyncio.create_task(me.ask_all([ask(str(n), "huge") for n in range(11)]))
                await asyncio.sleep(0.5)
                with pytest.raises(OverloadedError) as caught:
                    await other.ask(ask("more", "huge"))
                assert (await other.ask(ask("another simulation's", "small"))).failure is None
                await crowd
                return caught.value.retry_after_s

    assert run(main) == pytest.approx(10 * 2.5 / 2)


def test_an_unknown_model_is_named_and_nothing_is_sent() -> None:
    server = Server()

    async def main() -> None:
        async with InferenceClient({"m": server}) as client:
            with client.caller() as me:
                await me.ask_all([ask("a"), ask("a", model="n")])

    with pytest.raises(InferenceError, match="no model of this name"):
        run(main)
    assert server.calls == []


def test_a_fault_in_a_backend_reaches_those_who_wait() -> None:
    def answer(_request: GenRequest) -> GenResult:
        raise ZeroDivisionError

    async def main() -> None:
        async with InferenceClient({"m": Server(answer=answer)}) as client:
            with client.caller() as me:
                await me.ask(ask("a"))

    with pytest.raises(ZeroDivisionError):
        run(main)


def test_closing_tells_those_who_wait() -> None:
    server = Server(limits=BackendLimits(max_batch=1))

    async def main() -> list[BaseException | list[GenResult]]:
        client = InferenceClient({"m": server})
        with client.caller() as one, client.caller() as two:
            tasks = [asyncio.create_task(who.ask_all([ask("a"), ask(name)])) for who, name in ((one, "b"), (two, "c"))]
            await asyncio.sleep(0.5)
            await client.close()
            return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in run(main)] == [InferenceError, InferenceError]
    assert server.closed


def test_the_first_error_of_several_lines_of_work_ends_the_others() -> None:
    ended: list[str] = []

    async def wrong(_me: Caller) -> None:
        raise KeyError("wrong")

    async def right(me: Caller) -> None:
        try:
            await me.ask(ask("a"))
        finally:
            ended.append("right")

    async def main() -> float:
        async with InferenceClient({"m": Server()}, LATE) as client:
            with client.caller() as me:
                with pytest.raises(KeyError):
                    await me.gather([right, wrong])
                await me.ask(ask("b"))
                return now()

    assert run(main) <= 2.0
    assert ended == ["right"]
