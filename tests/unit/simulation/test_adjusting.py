"""How agents change: reflection, spawning and retiring, strategies that spread."""

from __future__ import annotations

import pytest

from steerline.simulation.event import Event
from steerline.simulation.result import Result
from steerline.simulation.runner import run
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.chat import chat
from tests.unit.simulation.worlds import MODEL, Server, llm, spec


def adjusted(result: Result) -> list[Event]:
    return list(result.of_kind("agent.adjusted"))


def test_a_reflection_changes_the_profile_that_later_prompts_show() -> None:
    server = Server(lambda request: '{"goals": ["win"]}' if request.response_schema else "hello")
    one = chat(llm(), models={"m": MODEL}, agent={"evolution": {"every": 1}}, topology={"kind": "none"}, max_ticks=2)
    result = run(one, backends={"m": server})
    assert [event.payload["diff"] for event in adjusted(result)] == [{"goals": ["win"]}] * 2
    acts = [request for request in server.asked if not request.response_schema]
    assert "win" not in acts[0].messages[0].content
    assert "Your goals: win." in acts[1].messages[0].content


@pytest.mark.parametrize(
    ("policy", "fields", "diff"),
    [("better", ["goals"], {"goals": ["be better than 1"]}), ("better", ["traits"], {}), ("worse", ["goals"], {})],
)
def test_only_what_is_allowed_may_change(policy: str, fields: list[str], diff: dict[str, list[str]]) -> None:
    evolution = {"evolution": {"every": 2, "fields": fields, "policy": policy}}
    (event,) = adjusted(run(chat("greet", agent=evolution)))
    assert event.payload["diff"] == diff
    assert (event.payload["parse"] == "ok") == bool(diff)


def test_agents_are_created_within_the_quota() -> None:
    children = {"x": "a", "y": "a", "b": "a", "z": "nobody", "\x1b[2J": "a", "w\n": "a", "environment": "a"}
    one = chat("greet", "greet", agent={"spawn_quota": 1}, params={"children": children})
    result = run(one)
    assert [event.agent for event in result.of_kind("agent.spawned")] == ["x"]
    refused = {event.payload["agent"]: event.payload["why"] for event in result.of_kind("spawn.refused")}
    assert refused == {
        "y": "the quota of 1 is used up",
        "b": "the name is taken",
        "z": "the creator is not alive",
        "\x1b[2J": "the name is none for an agent",
        "w\n": "the name is none for an agent",
        "environment": "the name is none for an agent",
    }
    assert [e.agent for e in result.of_kind("action.taken") if e.tick == 1] == ["a", "b", "x"]


def test_no_more_agents_live_than_are_allowed() -> None:
    one = chat("greet", agent={"spawn_quota": 5}, params={"children": {"x": "a", "y": "a"}}, max_agents=2)
    (event,) = run(one).of_kind("spawn.refused")
    assert event.payload["why"] == "max_agents = 2 are alive"


def test_a_created_agent_talks_with_its_creator() -> None:
    ring = {"kind": "ring"}
    one = chat(
        "greet", "greet", "greet", "greet", agent={"spawn_quota": 1}, params={"children": {"x": "a"}}, topology=ring
    )
    sent = [event for event in run(one).of_kind("msg.sent") if (event.agent, event.tick) == ("x", 1)]
    assert [list(event.payload["recipients"]) for event in sent] == [["a"]]


def test_who_leaves_neither_acts_nor_hears() -> None:
    result = run(chat("greet", "greet", "greet", params={"leaving": ["b"]}))
    assert [event.agent for event in result.of_kind("agent.retired")] == ["b"]
    assert [e.agent for e in result.of_kind("action.taken") if e.tick == 1] == ["a", "c"]
    assert all("b" not in event.payload["recipients"] for event in result.of_kind("msg.delivered"))


def test_a_run_whose_agents_have_all_left_is_over() -> None:
    result = run(chat("greet", params={"leaving": ["a"]}))
    assert (result.tick, result.reason) == (1, "no agent is left")


def test_success_spreads() -> None:
    """Free riders earn more than co-operators in the same group, so imitation wipes co-operation out."""
    one = spec("cooperator", "cooperator", "cooperator", "free_rider", max_ticks=12, imitation={"intensity": 5.0})
    result = run(one)
    assert result.series("mean_contribution")[0] == 15.0
    assert result.series("mean_contribution")[-1] == 0.0
    assert all(event.payload["adjustment"] == "imitation" for event in adjusted(result))


def test_without_selection_strategies_drift_at_half_the_meetings() -> None:
    """At intensity 0 a take-over is a coin toss."""
    takes = 0
    for seed in range(60):
        one = spec("cooperator", "free_rider", max_ticks=1, seed=seed, imitation={"intensity": 0.0})
        takes += len(adjusted(run(one)))
    assert 40 <= takes <= 80  # 120 coin tosses, 99.9 % interval


def test_all_of_it_is_rebuilt_from_the_log() -> None:
    one = chat(
        "greet",
        "greet",
        agent={"spawn_quota": 1, "evolution": {"policy": "better", "every": 1}, "memory": {"kind": "belief"}},
        params={"children": {"x": "a"}, "leaving": ["b"], "rewards": {"a": 1.0}},
        imitation={},
        max_ticks=4,
    )
    store = MemoryStore()
    for _ in range(4):
        result = run(one, store=store, sim="s", ticks=1)
        store.drop_snapshots("s")
    assert result.hash == run(one).hash
