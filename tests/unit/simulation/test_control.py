"""What people do to a run from outside, and people's own seats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from steerline.errors import SimulationError
from steerline.inference.request import GenRequest
from steerline.simulation.control import Controls
from steerline.simulation.engine import Surroundings
from steerline.simulation.humans import HumanRequest
from steerline.simulation.replay import replay_strictly
from steerline.simulation.result import Result
from steerline.simulation.runner import run
from steerline.simulation.store.base import Control
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.worlds import Server, llm, spec

TWO = spec("conditional", "conditional")
SEAT = spec("conditional", {"kind": "human", "deadline_s": 60.0, "default": "ANSWER: 3"})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def begun(one: object = TWO, ticks: int = 1) -> tuple[MemoryStore, Controls]:
    store = MemoryStore()
    run(one, store=store, sim="s", ticks=ticks, backends={"m": Server()})  # type: ignore[arg-type]
    return store, Controls(store, "s")


def given(result: Result, agent: str) -> list[int]:
    return [event.payload["given"][agent] for event in result.of_kind("env.changed") if "given" in event.payload]


def test_a_paused_run_goes_on_when_it_is_run_again() -> None:
    store, controls = begun()
    controls.pause("lunch")
    paused = run(TWO, store=store, sim="s")
    assert (paused.status, paused.reason, paused.tick) == ("paused", "lunch", 1)
    assert store.find("s").status == "paused"  # type: ignore[union-attr]
    result = run(TWO, store=store, sim="s")
    assert result.hash == run(TWO).hash


def test_a_pause_of_the_workflow_happens_once() -> None:
    store, one = MemoryStore(), spec("conditional", "conditional", workflow=[{"kind": "pause", "at": 2}])
    first = run(one, store=store, sim="s")
    assert (first.status, first.tick) == ("paused", 2)
    assert run(one, store=store, sim="s").status == "ended"


def test_an_injected_message_reaches_the_agents_prompt_and_is_an_event() -> None:
    server = Server()
    store, controls = begun(spec(llm(), llm()))
    assert controls.message("a storm is coming", ["a"], id_="m1")
    assert not controls.message("a storm is coming", ["a"], id_="m1")
    result = run(spec(llm(), llm()), store=store, sim="s", backends={"m": server}, ticks=1)
    prompts = {request.agent: request.messages[1].content for request in server.asked}
    assert "environment said:\n> a storm is coming" in prompts["a"]
    assert "storm" not in prompts["b"]
    assert [event.payload["id"] for event in result.of_kind("control.applied")] == ["m1"]


def test_a_changed_state_is_checked_against_the_state() -> None:
    store, controls = begun()
    controls.set_state({"spent": 99})
    assert run(TWO, store=store, sim="s", ticks=1).metrics[-1]["punishment"] == 99


@pytest.mark.parametrize(
    ("post", "why"),
    [
        (lambda controls: controls.set_state({"weather": "rain"}), "the state has no field weather"),
        (lambda controls: controls.message("hello", ["eve"]), "there is no agent eve"),
        (lambda controls: controls.interview("Who are you?", ["eve"]), "there is no agent eve"),
    ],
    ids=["state", "message", "interview"],
)
def test_what_does_not_fit_is_refused_with_an_event_and_the_run_goes_on(
    post: Callable[[Controls], bool], why: str
) -> None:
    store, controls = begun()
    post(controls)
    result = run(TWO, store=store, sim="s")
    assert [event.payload["why"] for event in result.of_kind("control.refused")] == [why]
    assert result.status == "ended"
    assert result.state == run(TWO).state
    store.drop_snapshots("s")
    assert run(TWO, store=store, sim="s").hash == result.hash
    assert asyncio.run(replay_strictly(TWO, result.events, ())).hash == result.hash


def test_an_interview_changes_nothing_but_the_log() -> None:
    one = spec(llm(), "conditional", agent={"memory": {"kind": "window"}})
    server = Server(lambda request: "I trust b." if "trust" in request.messages[1].content else "ANSWER: 7")
    store = MemoryStore()
    run(one, store=store, sim="s", backends={"m": server}, ticks=1)
    Controls(store, "s").interview("Whom do you trust?")
    result = run(one, store=store, sim="s", backends={"m": server})
    answers = {event.agent: event.payload for event in result.of_kind("interview.answered")}
    assert answers["a"]["answer"] == "I trust b."
    assert answers["b"]["parse"] == "defaulted"
    assert result.state == run(one, backends={"m": server}).state
    assert not any("trust" in request.messages[1].content for request in server.asked if request.call.startswith("2/"))


def test_whoever_asks_may_say_how_the_answer_is_drawn() -> None:
    one, server = spec(llm(), "conditional"), Server()
    for drawn in ({}, {"sampling": {"temperature": 0.3, "max_tokens": 7}}, {"seed": 5}):
        store = MemoryStore()
        run(one, store=store, sim="s", backends={"m": Server()}, ticks=1)
        store.post("s", Control("i", "interview", {"question": "Who are you?", "agents": ["a"], **drawn}))
        run(one, store=store, sim="s", backends={"m": server}, ticks=1)
    plain, colder, seeded = [request for request in server.asked if "Who are you?" in request.messages[-1].content]
    assert (colder.sampling.temperature, colder.sampling.max_tokens) == (0.3, 7)
    assert colder.seed == plain.seed != seeded.seed
    assert seeded.sampling == plain.sampling


def test_an_interview_may_be_remembered() -> None:
    one = spec(llm(), "conditional", agent={"memory": {"kind": "window"}})
    server = Server(lambda request: "ANSWER: 7")
    store = MemoryStore()
    run(one, store=store, sim="s", backends={"m": server}, ticks=1)
    Controls(store, "s").interview("Whom do you trust?", ["a"], remember=True)
    run(one, store=store, sim="s", backends={"m": server})
    assert any("I was asked: Whom do you trust?" in request.messages[1].content for request in server.asked)


def test_a_survey_asks_a_sample_to_choose() -> None:
    workflow = [{"kind": "survey", "at": 1, "question": "Is it fair?", "options": ["yes", "no"], "sample": 2}]
    one = spec(llm(), llm(), llm(), workflow=workflow)
    server = Server(lambda request: "ANSWER: yes" if "fair" in request.messages[1].content else "ANSWER: 7")
    result = run(one, backends={"m": server})
    answers = [event.payload["answer"] for event in result.of_kind("interview.answered")]
    assert answers == ["yes", "yes"]


def test_a_seat_waits_for_its_person_and_takes_the_first_answer() -> None:
    store = MemoryStore()
    first = run(SEAT, store=store, sim="s")
    assert (first.status, first.tick) == ("waiting", 0)
    controls = Controls(store, "s")
    (question,) = controls.questions()
    assert (question.agent, question.id) == ("b", "0.0.b")
    assert "How many points" in question.question
    assert controls.answer(question.id, "ANSWER: 11")
    assert not controls.answer(question.id, "ANSWER: 12")
    second = run(SEAT, store=store, sim="s")
    assert (second.status, second.tick) == ("waiting", 1)
    assert given(second, "b") == [11]
    kinds = [event.kind for event in second.events if event.agent == "b" and event.kind.startswith("human")]
    assert kinds == ["human.requested", "human.answered"]
    assert [request.id for request in controls.questions()] == ["1.0.b"]


def test_a_seat_takes_its_default_after_the_deadline_that_was_first_set() -> None:
    store, clock = MemoryStore(), Clock()
    around = Surroundings(clock=clock)
    for _ in range(2):
        assert run(SEAT, store=store, sim="s", around=around).status == "waiting"
        clock.now += 31
    result = run(SEAT, store=store, sim="s", around=around)
    assert result.tick == 1
    assert given(result, "b") == [3]


def test_a_person_who_is_here_is_asked_directly() -> None:
    async def person(request: HumanRequest) -> str:
        return f"ANSWER: {request.tick + 1}"

    result = run(SEAT, around=Surroundings(ask_human=person))
    assert given(result, "b") == [1, 2, 3, 4]


REVIEWED = spec("conditional", {"kind": "reviewed", "llm": llm(), "flagged": ["greedy"], "deadline_s": 60.0})


def greedy(request: GenRequest) -> str:
    return "I am gre\u200bedy.\nANSWER: 0" if request.call.startswith("1/") else "ANSWER: 7"


@pytest.mark.parametrize(
    ("said", "points", "reviewed"),
    [("approve", 0, "approved"), (" Veto", 0, "vetoed"), ("ANSWER: 9", 9, "edited"), (None, 0, "vetoed")],
)
def test_a_flagged_answer_is_approved_changed_or_forbidden(said: str | None, points: int, reviewed: str) -> None:
    store, clock, server = MemoryStore(), Clock(), Server(greedy)
    around = Surroundings(clock=clock)
    first = run(REVIEWED, store=store, sim="s", backends={"m": server}, around=around)
    assert (first.status, first.tick) == ("waiting", 1)
    (question,) = Controls(store, "s").questions()
    assert question.question == "b answers:\n> I am greedy.\n> ANSWER: 0"
    if said is None:
        clock.now += 61
    else:
        Controls(store, "s").answer(question.id, said)
    result = run(REVIEWED, store=store, sim="s", backends={"m": server}, around=around)
    assert result.status == "ended"
    assert given(result, "b")[1] == points
    turns = [event for event in result.events if event.agent == "b" and event.kind.startswith("action")]
    assert [event.payload.get("reviewed") for event in turns[:3]] == [None, reviewed, None]
    assert server.places.count("1/b/0") == 1
    store.drop_snapshots("s")
    assert run(REVIEWED, store=store, sim="s", backends={"m": server}).hash == result.hash
    assert asyncio.run(replay_strictly(REVIEWED, result.events, tuple(store.calls("s")))).hash == result.hash


def test_an_answer_to_no_question_is_refused() -> None:
    store, _ = begun()
    with pytest.raises(SimulationError, match="no open question"):
        Controls(store, "s").answer("0.0.z", "ANSWER: 1")


def test_controls_need_a_simulation() -> None:
    with pytest.raises(SimulationError, match="no simulation called nothing"):
        Controls(MemoryStore(), "nothing")
