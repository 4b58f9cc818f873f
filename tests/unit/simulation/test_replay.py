"""A recorded run can be played again without models, and left at any tick."""

from __future__ import annotations

import asyncio

import pytest

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec
from steerline.config.simulation_running import BudgetSpec
from steerline.errors import CorruptLogError, ReplayError, SimulationError
from steerline.simulation.engine import Surroundings
from steerline.simulation.humans import HumanRequest
from steerline.simulation.replay import fork, replay_strictly
from steerline.simulation.result import Result
from steerline.simulation.runner import run
from steerline.simulation.scenarios.public_goods import PublicGoods
from steerline.simulation.store.base import Control
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.worlds import Server, drawn, llm, spec

SPEC = spec(llm(attempts=2), llm(), "conditional", agent={"memory": {"kind": "summary", "every": 2}}, punishment=True)


def recorded(store: MemoryStore, spec: SimulationSpec = SPEC) -> Result:
    return run(spec, store=store, sim="s", backends={"m": Server()})


def replayed(store: MemoryStore, spec: SimulationSpec = SPEC) -> Result:
    return asyncio.run(replay_strictly(spec, list(store.events("s")), list(store.calls("s"))))


def test_a_strict_replay_has_the_same_hash_and_needs_no_model() -> None:
    store = MemoryStore()
    result = recorded(store)
    again = replayed(store)
    assert again.hash == result.hash
    assert again.outcome == result.outcome


def test_what_was_injected_and_answered_by_people_is_replayed_too() -> None:
    async def person(request: HumanRequest) -> str:
        return f"ANSWER: {request.tick}"

    store, one, around = MemoryStore(), spec(llm(), {"kind": "human"}), Surroundings(ask_human=person)
    run(one, store=store, sim="s", backends={"m": Server()}, ticks=1, around=around)
    store.post("s", Control("i1", "message", {"text": "be generous"}))
    result = run(one, store=store, sim="s", backends={"m": Server()}, around=around)
    assert result.status == "ended"
    assert replayed(store, one).hash == result.hash


def test_a_changed_prompt_fails_with_a_difference_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    recorded(store)
    monkeypatch.setattr(PublicGoods, "rules", lambda self: "Quite another game.")
    with pytest.raises(ReplayError, match="differs from the journal") as caught:
        replayed(store)
    assert "tick 0, agent a, call 0" in str(caught.value)
    lines = str(caught.value).splitlines()
    assert any(line.startswith("+") and "Quite another game." in line for line in lines)
    assert any(line.startswith("-") and "You play 4 rounds" in line for line in lines)


def test_a_missing_call_fails() -> None:
    store = MemoryStore()
    recorded(store)
    calls = [call for call in store.calls("s") if (call.tick, call.agent) != (2, "b")]
    with pytest.raises(ReplayError, match="no such call") as caught:
        asyncio.run(replay_strictly(SPEC, list(store.events("s")), calls))
    assert "tick 2, agent b" in str(caught.value)


def test_an_altered_log_is_refused_at_the_right_event() -> None:
    store = MemoryStore()
    recorded(store)
    events = list(store.events("s"))
    place = next(event.seq for event in events if event.kind == "action.taken" and event.tick == 1)
    events[place - 1].payload["payload"] = 13
    with pytest.raises(CorruptLogError, match="not whole") as caught:
        asyncio.run(replay_strictly(SPEC, events, list(store.calls("s"))))
    assert f"event {place} (action.taken, tick 1) was altered" in str(caught.value)


def test_a_fork_shares_the_history_up_to_its_tick_and_asks_models_from_there() -> None:
    store, server = MemoryStore(), Server(lambda request: "ANSWER: 20" if request.response_schema is None else "{}")
    result = recorded(store)
    new = asyncio.run(fork(store, "s", "t", 2))
    other = run(new, store=store, sim="t", backends={"m": server})
    shared = sum(event.tick < 2 for event in result.events)
    assert [event.hash for event in other.events[:shared]] == [event.hash for event in result.events[:shared]]
    assert other.hash != result.hash
    assert {request.call.split("/")[0] for request in server.asked} == {"2", "3"}


def test_a_fork_with_the_same_answers_has_the_same_hash() -> None:
    store = MemoryStore()
    result = recorded(store)
    new = asyncio.run(fork(store, "s", "t", 2))
    assert run(new, store=store, sim="t", backends={"m": Server()}).hash == result.hash


def test_a_fork_does_not_pay_for_the_history_that_it_shares() -> None:
    store = MemoryStore()
    recorded(store)
    shared, rest = (sum((call.tick < 2) is early for call in store.calls("s")) for early in (True, False))
    assert shared > 0
    limited = SPEC.model_copy(update={"budgets": BudgetSpec(max_calls=rest)})
    new = asyncio.run(fork(store, "s", "t", 2, spec=limited))
    assert run(new, store=store, sim="t", backends={"m": Server()}).status == "ended"


def test_a_fork_can_give_an_agent_another_brain_and_is_rebuilt_with_it() -> None:
    store = MemoryStore()
    recorded(store)
    free = AgentSpec.model_validate({"id": "a", "brain": {"kind": "scripted", "policy": "free_rider"}})
    new = asyncio.run(fork(store, "s", "t", 2, agents={"a": free}))
    run(new, store=store, sim="t", backends={"m": Server()}, ticks=1)
    store.drop_snapshots("t")
    other = run(new, store=store, sim="t", backends={"m": Server()})
    given = [event.payload["given"]["a"] for event in other.of_kind("env.changed") if "given" in event.payload]
    assert given[2:] == [0, 0]
    assert given[:2] != [0, 0]


@pytest.mark.parametrize("at", [0, 9])
def test_a_fork_needs_a_tick_that_was_played(at: int) -> None:
    store = MemoryStore()
    recorded(store)
    with pytest.raises(SimulationError, match="to fork at"):
        asyncio.run(fork(store, "s", "t", at))


def test_the_cache_answers_equal_requests_of_other_simulations_at_temperature_0() -> None:
    cold = spec(llm(sampling={"temperature": 0}), llm(sampling={"temperature": 0}), replay={"kind": "cache"})
    store, server = MemoryStore(), Server(drawn)
    first = run(cold, store=store, sim="s", backends={"m": Server(drawn)})
    second = run(cold, store=store, sim="t", backends={"m": server})
    assert second.hash == first.hash
    assert server.asked == []


def test_a_backends_limits_are_no_part_of_what_is_asked() -> None:
    store = MemoryStore()
    result = recorded(store)
    other = SPEC.model_dump()
    other["models"]["m"]["backend"] |= {"max_in_flight": 3, "timeout_s": 1.0}
    assert replayed(store, SimulationSpec.model_validate(other)).hash == result.hash
    other["models"]["m"]["backend"]["url"] = "http://127.0.0.1:8/v1"
    with pytest.raises(ReplayError, match="differs from the journal"):
        replayed(store, SimulationSpec.model_validate(other))
