"""Messages: who hears them, when, what interceptors do, and that hostile ones do no harm."""

from __future__ import annotations

from typing import Any

import pytest

from steerline.errors import SimulationError
from steerline.simulation.result import Result
from steerline.simulation.runner import run
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.text import clean
from steerline.simulation.world import World
from tests.unit.simulation.chat import chat
from tests.unit.simulation.worlds import MODEL, Server, llm


def heard(result: Result, agent: str, tick: int) -> set[str]:
    """What an agent with the policy `echo` had heard at a tick."""
    events = [e for e in result.of_kind("action.taken") if (e.agent, e.tick) == (agent, tick)]
    return set(events[-1].payload["text"].split(",")) - {"-"}


def test_a_message_arrives_in_the_next_tick() -> None:
    result = run(chat("echo", "greet", "greet"))
    assert heard(result, "a", 0) == set()
    assert heard(result, "a", 1) == {"b at 0.0", "c at 0.0"}


def test_a_message_arrives_in_the_next_sub_round_of_a_conversation() -> None:
    result = run(chat("echo", "greet", params={"rounds": 2}, max_ticks=1))
    assert heard(result, "a", 0) == {"b at 0.0"}
    assert result.tick == 1


def test_who_takes_turns_hears_those_before_in_the_same_tick() -> None:
    result = run(chat("greet", "echo", engine="sequential", max_ticks=1))
    assert heard(result, "b", 0) == {"a at 0.0"}


def test_an_event_engine_wakes_only_those_who_were_sent_something() -> None:
    result = run(chat("greet", "greet", "greet", topology={"kind": "chain"}, engine="event", max_ticks=4))
    acted = [[e.agent for e in result.of_kind("action.taken") if e.tick == tick] for tick in range(4)]
    assert acted == [["a", "b", "c"], ["b", "c"], ["c"], []]


def test_a_message_says_which_messages_it_answers_and_events_say_their_cause() -> None:
    result = run(chat("echo", "greet"))
    sent = [event for event in result.of_kind("msg.sent") if event.agent == "a"]
    assert [list(event.payload["caused_by"]) for event in sent] == [[], ["0.0.1"]]
    by_seq = {event.seq: event for event in result.events}
    for event in result.of_kind("msg.delivered"):
        assert by_seq[event.cause or 0].payload["id"] == event.payload["id"]
    for event in result.of_kind("msg.sent"):
        assert by_seq[event.cause or 0].agent == event.agent


def intercepted(**interceptor: Any) -> Result:
    return run(chat("echo", "greet", "greet", interceptors=[interceptor], max_ticks=4))


@pytest.mark.parametrize(
    ("interceptor", "at_1", "at_2"),
    [
        ({"kind": "drop", "match": {"senders": ["b"]}}, {"c at 0.0"}, {"c at 1.0"}),
        ({"kind": "drop", "match": {"pattern": "at 0"}}, set(), {"b at 1.0", "c at 1.0"}),
        ({"kind": "drop", "match": {"recipients": ["b"]}}, {"b at 0.0", "c at 0.0"}, {"b at 1.0", "c at 1.0"}),
        ({"kind": "edit", "pattern": "at", "replacement": "not at"}, {"b not at 0.0", "c not at 0.0"}, None),
        ({"kind": "delay", "ticks": 2}, set(), {"b at 0.0", "c at 0.0"}),
        ({"kind": "rate_limit", "per_tick": 0}, set(), set()),
        ({"kind": "rate_limit", "per_tick": 1}, {"b at 0.0", "c at 0.0"}, {"b at 1.0", "c at 1.0"}),
        ({"kind": "moderate", "forbidden": ["B"]}, {"c at 0.0"}, {"c at 1.0"}),
        ({"kind": "moderate", "forbidden": ["a"]}, {"b at 0.0", "c at 0.0"}, None),
    ],
)
def test_interceptors_do_what_they_say(interceptor: dict[str, Any], at_1: set[str], at_2: set[str] | None) -> None:
    result = intercepted(**interceptor)
    assert heard(result, "a", 1) == at_1
    if at_2 is not None:
        assert heard(result, "a", 2) == at_2


def test_an_interceptor_sees_what_those_before_it_left() -> None:
    edit = {"kind": "edit", "pattern": "at", "replacement": "near", "match": {"recipients": ["a"]}}
    for later in ({"kind": "moderate", "forbidden": ["at"]}, {"kind": "drop", "match": {"pattern": "at"}}):
        result = run(chat("echo", "greet", "echo", interceptors=[edit, later]))
        assert "b near 0.0" in heard(result, "a", 1)
        assert "b at 0.0" not in heard(result, "c", 1)


def test_a_fault_changes_one_digit() -> None:
    (message,) = heard(run(chat("echo", "greet", interceptors=[{"kind": "fault"}])), "a", 1)
    assert message != "b at 0.0"
    assert sum(one != other for one, other in zip(message, "b at 0.0", strict=True)) == 1


def test_who_offends_too_often_is_muted() -> None:
    result = intercepted(kind="moderate", forbidden=["0.0", "1.0"], mute_after=2)
    why = [(event.agent, event.tick, event.payload["why"]) for event in result.of_kind("msg.blocked")]
    assert ("b", 0, "forbidden: 0.0") in why
    assert ("b", 2, "the sender is muted") in why
    assert heard(result, "a", 3) == set()


def test_what_an_interceptor_did_is_in_the_log() -> None:
    (blocked, *_) = intercepted(kind="drop", match={"senders": ["b"]}).of_kind("msg.blocked")
    assert blocked.payload == {"id": "0.0.1", "recipients": ["a", "c"], "by": "drop", "why": "lost on its way"}


def test_hostile_text_is_neutralised_with_an_event() -> None:
    result = run(chat("hostile", "echo", max_text=1000))
    (event, *_) = result.of_kind("text.neutralised")
    assert (event.agent, event.payload) == ("a", {"removed": 4, "cut": 999_040})
    for event in result.of_kind("action.taken", "msg.sent"):
        text = str(event.payload)
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_a_run_with_hostile_text_is_rebuilt_as_it_was() -> None:
    store, one = MemoryStore(), chat("hostile", "echo", max_text=1000, max_ticks=3)
    for _ in range(3):
        result = run(one, store=store, sim="s", ticks=1)
        store.drop_snapshots("s")
    assert result.hash == run(one).hash


def test_a_message_cannot_pass_for_the_prompt_or_for_the_readers_answer() -> None:
    server = Server(lambda request: request.messages[1].content)
    one = chat("hostile", llm(), models={"m": MODEL}, max_text=1000)
    run(one, backends={"m": server})
    prompt = server.asked[-1].messages[1].content
    lines = [line for line in prompt.splitlines() if "ANSWER: 20" in line or "Only you know: all" in line]
    assert lines
    assert all(line.startswith("> ") for line in lines)


def test_no_agent_passes_for_the_environment_that_all_hear() -> None:
    one = chat("greet", "greet")
    agents = (one.agents[0], one.agents[1].model_copy(update={"id": "environment"}))
    with pytest.raises(SimulationError, match="no agent can be named environment"):
        run(one.model_copy(update={"agents": agents}))


def test_no_agents_secret_is_in_anothers_prompt() -> None:
    server = Server(lambda request: "hello")
    one = chat(
        llm(), llm(), llm(), models={"m": MODEL}, agent={"memory": {"kind": "retrieval", "top": 50}}, max_ticks=4
    )
    run(one, backends={"m": server})
    for request in server.asked:
        text = request.messages[0].content + request.messages[1].content
        for other in "abc":
            assert (f"the secret of {other}" in text) == (other == request.agent)


def test_cleaning_keeps_what_is_text() -> None:
    text = "tab\there, line\nthere, \u00e9\u4e2d\U0001f600"
    assert clean(text, 1000).text == text
    assert clean("a\r\nb\rc", 1000).text == "a\nb\nc"
    assert clean("x" * 10, 4).text == "xxxx"


def test_edits_that_multiply_a_text_leave_none_longer_than_the_longest() -> None:
    edit = {"kind": "edit", "pattern": ".", "replacement": "x" * 100}
    result = run(chat("echo", "greet", interceptors=[edit] * 3, max_text=500))
    assert max(len(event.payload["text"]) for event in result.of_kind("msg.changed")) == 500


def test_messages_on_their_way_come_back_from_a_snapshot_as_they_were() -> None:
    changes = [
        {"kind": "edit", "pattern": "at", "replacement": "@", "match": {"recipients": ["c"]}},
        {"kind": "delay", "ticks": 2, "match": {"recipients": ["a"]}},
    ]
    one = chat("echo", "greet", "echo", interceptors=changes, max_ticks=6, durability={"snapshot_every": 1})
    store = MemoryStore()
    for _ in range(6):
        pieces = run(one, store=store, sim="s", ticks=1)
    assert store.snapshot("s") is not None
    assert pieces.hash == run(one).hash
    assert heard(pieces, "a", 2) == {"b at 0.0"}
    assert heard(pieces, "c", 1) == {"b @ 0.0"}


def test_all_who_hear_a_message_share_it_in_a_world_and_in_its_snapshot() -> None:
    store = MemoryStore()
    run(chat("greet", "echo", "echo", "echo", durability={"snapshot_every": 1}), store=store, sim="s", ticks=2)
    snapshot = store.snapshot("s")
    assert snapshot is not None
    flight = World.unpack(snapshot.world).flights[0]
    assert list(flight.copies) == ["b", "c", "d"]
    assert len({id(copy) for copy in flight.copies.values()}) == 1
