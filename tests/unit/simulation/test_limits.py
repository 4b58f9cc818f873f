"""Budgets pause a run; late and failing brains follow the straggler policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from steerline.config.simulation import SimulationSpec
from steerline.inference.request import BackendLimits, Failure, GenRequest, GenResult
from steerline.simulation.replay import replay_strictly
from steerline.simulation.result import Result
from steerline.simulation.runner import play, run
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.turn import Turn
from tests.unit.inference import virtual
from tests.unit.simulation.worlds import Server, drawn, llm, spec

PRICED = {"m": {"backend": {"kind": "openai", "url": "http://127.0.0.1:9/v1", "model": "m"}, "completion_price": 1e6}}


def limited(**budgets: Any) -> SimulationSpec:
    return spec(llm(), llm(), models=PRICED, budgets=budgets)


@pytest.mark.parametrize(
    ("budgets", "ticks"),
    [
        ({"max_calls": 5}, 2),
        ({"max_calls_per_tick": 1}, 0),
        ({"max_tokens": 600}, 2),
        ({"max_cost": 260.0}, 1),
        ({"max_seconds": 1e-9}, 1),
    ],
)
def test_a_budget_pauses_the_run_before_it_is_passed(budgets: dict[str, Any], ticks: int) -> None:
    store = MemoryStore()
    paused = run(limited(**budgets), store=store, sim="s", backends={"m": Server()})
    assert (paused.status, paused.tick) == ("paused", ticks)
    assert f"budgets.{next(iter(budgets))}" in paused.reason
    result = run(limited(), store=store, sim="s", backends={"m": Server()})
    assert result.hash == run(limited(), backends={"m": Server()}).hash


def test_a_budget_counts_all_attempts() -> None:
    store = MemoryStore()
    for _ in range(3):
        result = run(limited(max_calls=3), store=store, sim="s", backends={"m": Server()})
    assert result.tick == 1
    assert len(list(store.calls("s"))) == 2


def broken(request: GenRequest) -> str | GenResult:
    if request.agent == "a" and request.call.startswith("1/"):
        return GenResult.failed(Failure("refused", "the server does not like it"))
    return drawn(request)


def test_a_failing_model_pauses_the_run_which_goes_on_with_what_was_answered() -> None:
    one, store, server = spec(llm(), llm()), MemoryStore(), Server()
    paused = run(one, store=store, sim="s", backends={"m": Server(broken)})
    assert (paused.status, paused.tick) == ("paused", 1)
    assert "the server does not like it" in paused.reason
    result = run(one, store=store, sim="s", backends={"m": server})
    assert result.hash == run(one, backends={"m": Server()}).hash
    assert "1/b/0" not in server.places


def test_a_failing_model_takes_the_default_where_the_policy_says_so() -> None:
    result = run(spec(llm(), llm(), straggler={"policy": "default"}), backends={"m": Server(broken)})
    (event,) = result.of_kind("action.invalid")
    assert (event.agent, event.tick, event.payload["payload"]) == ("a", 1, 0)
    assert event.payload["reason"] == "the server does not like it"
    assert result.status == "ended"


class Slow:
    """Takes its time for agent a in tick 1, and none for the rest."""

    limits = BackendLimits(max_batch=1, in_flight=8)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.asked: list[str] = []

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        (request,) = requests
        self.asked.append(request.call)
        if request.call.startswith("1/a"):
            await asyncio.sleep(self._seconds)
        return [GenResult("ANSWER: 11" if request.agent == "a" else "ANSWER: 5", "stop")]

    async def close(self) -> None:
        """Nothing is held."""


def slowly(policy: str, seconds: float = 10.0) -> tuple[Result, Slow]:
    """A run on a clock that jumps."""
    one, slow = spec(llm(), llm(), straggler={"policy": policy, "timeout_s": 2.0}), Slow(seconds)
    return virtual.run(lambda: play(one, backends={"m": slow})), slow


def given(result: Result, agent: str) -> list[int]:
    return [event.payload["given"][agent] for event in result.of_kind("env.changed")]


def test_a_slow_brain_pauses_a_run_that_waits() -> None:
    result, _ = slowly("wait")
    assert (result.status, result.tick) == ("paused", 1)
    assert "longer than 2 s" in result.reason


def test_a_slow_brain_takes_the_default() -> None:
    result, _ = slowly("default")
    assert given(result, "a") == [11, 0, 11, 11]
    assert given(result, "b") == [5, 5, 5, 5]
    assert [event.payload["reason"] for event in result.of_kind("action.invalid")] == ["no answer in time"]


def test_a_late_answer_acts_in_the_next_tick_and_nobody_is_asked_twice() -> None:
    result, slow = slowly("late", seconds=3.0)
    assert given(result, "a") == [11, 0, 11, 11]
    assert "2/a/0" not in slow.asked
    assert len(slow.asked) == len(set(slow.asked))


def test_a_run_with_late_answers_is_rebuilt_and_replayed_as_it_was() -> None:
    one, store = spec(llm(), llm(), straggler={"policy": "late", "timeout_s": 2.0}), MemoryStore()
    result = virtual.run(lambda: play(one, store=store, sim="s", backends={"m": Slow(3.0)}))
    assert any(event.payload.get("late") for event in result.of_kind("action.taken"))
    store.drop_snapshots("s")
    assert run(one, store=store, sim="s", backends={"m": Server()}).hash == result.hash
    replayed = asyncio.run(replay_strictly(one, result.events, list(store.calls("s"))))
    assert replayed.hash == result.hash


class Own:
    """A brain of one's own that has its troubles in tick 1."""

    def __init__(self, trouble: str) -> None:
        self._trouble = trouble

    async def decide(self, turn: Turn) -> str:
        if turn.observation.tick == 1:
            if self._trouble == "slow":
                await asyncio.sleep(10.0)
            if self._trouble == "broken":
                raise KeyError("wits")
            return None  # type: ignore[return-value]
        return "ANSWER: 7"


@pytest.mark.parametrize(
    ("trouble", "why"), [("slow", "TimeoutError()"), ("broken", "KeyError('wits')"), ("mute", "None")]
)
def test_a_brain_of_ones_own_that_is_late_or_fails_follows_the_policy(trouble: str, why: str) -> None:
    own = {"kind": "custom", "name": "tests.unit.simulation.test_limits:Own", "params": {"trouble": trouble}}
    reason = f"the brain of a gave no text: {why}"
    one = spec(own, "conditional", straggler={"policy": "default", "timeout_s": 2.0})
    result = virtual.run(lambda: play(one))
    (event,) = result.of_kind("action.invalid")
    assert (event.agent, event.tick, event.payload["reason"]) == ("a", 1, reason)
    assert result.status == "ended"
    waiting = virtual.run(lambda: play(spec(own, "conditional", straggler={"policy": "wait", "timeout_s": 2.0})))
    assert (waiting.status, waiting.reason, waiting.tick) == ("paused", reason, 1)


def test_brains_of_ones_own_think_side_by_side() -> None:
    own = {"kind": "custom", "name": "tests.unit.simulation.test_limits:Own", "params": {"trouble": "slow"}}
    one = spec(own, own, own, straggler={"policy": "default", "timeout_s": 11.0}, max_ticks=2)

    async def seconds() -> float:
        began = asyncio.get_running_loop().time()
        await play(one)
        return asyncio.get_running_loop().time() - began

    assert virtual.run(seconds) < 11.0


def test_an_answer_that_stays_away_is_waited_for_in_no_tick() -> None:
    result, _ = slowly("late", seconds=1000.0)
    assert given(result, "a") == [11, 0, 0, 0]
    assert result.status == "ended"


def test_a_huge_run_does_not_starve_a_small_one() -> None:
    """Both ask one server of two rows a batch; the small one ends while the huge one has hardly begun."""
    huge = spec(*[llm()] * 8, max_ticks=20, params={"rounds": 20})
    small, server = spec(llm(), llm(), seed=1), Server(max_batch=2)

    async def both() -> tuple[Result, Result, int]:
        from steerline.inference.client import InferenceClient
        from steerline.simulation.engine import Surroundings

        async with InferenceClient({"m": server}) as client:
            around = Surroundings(client=client)
            large = asyncio.create_task(play(huge, sim="huge", around=around))
            little = await play(small, sim="small", around=around)
            asked = sum(request.simulation == "huge" for request in server.asked)
            return await large, little, asked

    large, little, asked = asyncio.run(both())
    assert (large.status, little.status) == ("ended", "ended")
    assert asked < 60
