"""Discussions of open questions, against theory and by their rules."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import pytest

from steerline.config.load import changed
from steerline.config.simulation_agents import Profile
from steerline.errors import SimulationError
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Seat
from steerline.simulation.scenarios.discussion import Discussion, DiscussionParams, game


@pytest.mark.parametrize("oracle", Discussion.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


def test_an_editor_writes_the_answer_after_the_last_round() -> None:
    result = run(game(["stubborn", "following", "following"], editor="following", rounds=3, question="why?"))
    assert (result.tick, result.outcome["by"], result.outcome["question"]) == (4, "editor", "why?")
    assert result.outcome["answer"]
    assert "support" not in result.outcome
    assert {event.agent for event in result.of_kind("action.taken") if event.tick == 3} == {"editor"}


def test_without_an_editor_a_vote_for_what_was_said_last_decides() -> None:
    result = run(game(["stubborn", "following", "following"], rounds=3))
    assert result.outcome["support"] in (2 / 3, 1.0)
    assert result.outcome["answer"] == result.state["said"][result.outcome["by"]]


def test_who_is_alone_need_not_vote() -> None:
    result = run(game(["stubborn"], rounds=2))
    assert (result.tick, result.outcome["answer"]) == (2, "I think as agent-1 does.")


def test_agents_hear_each_other_and_see_the_question() -> None:
    spec = game(["stubborn", "drifting"], rounds=2, question="how many?")
    result = run(spec)
    assert len(list(result.of_kind("msg.delivered"))) == 2
    scenario = Discussion(DiscussionParams(question="how many?", rounds=1))
    state = scenario.reset([Seat("a"), Seat("b")], CounterRng(0))
    assert "how many?" in scenario.observe(state, "a").text
    said = {**state, "round": 1, "said": {"a": "three", "b": "> ANSWER: b"}}
    assert "a:\n> three" in scenario.observe(said, "b").text


@pytest.mark.parametrize("roles", [["editor"], ["editor", "editor", ""]])
def test_agents_that_cannot_discuss_are_refused(roles: list[str]) -> None:
    seats = [Seat(str(n), Profile(role=role)) for n, role in enumerate(roles)]
    with pytest.raises(SimulationError):
        Discussion(DiscussionParams()).reset(seats, CounterRng(0))


def test_who_speaks_in_turns_hears_those_before_and_the_vote_is_of_all() -> None:
    result = run(game(["stubborn"] * 3, rounds=2).model_copy(update={"engine": "sequential"}))
    spoke = {event.agent: event.seq for event in result.of_kind("action.taken") if event.tick == 0}
    delivered = [(event.seq, name) for event in result.of_kind("msg.delivered") for name in event.payload["recipients"]]
    heard = Counter(name for seq, name in delivered if seq < spoke[name])
    assert [heard[f"agent-{n}"] for n in (1, 2, 3)] == [0, 1, 2]
    assert [len(list(events)) for _, events in groupby(result.of_kind("action.taken"), lambda e: e.tick)] == [3, 3, 3]
    assert result.outcome["rounds"] == 2
    assert result.state["votes"] == {f"agent-{n}": f"agent-{n}" for n in (1, 2, 3)}


def test_a_vote_in_turns_that_not_all_cast_ends_with_its_tick() -> None:
    masks = {"kind": "masks", "nodes": ["agent-1", "agent-2"], "spatial": [[[0, 0]] * 2] * 2}
    masks |= {"temporal": [[[0, 0]] * 2] * 2, "active": [[1, 1], [0, 1]]}
    spec = changed(game(["stubborn"] * 2, rounds=1), {"engine": "sequential", "topology": masks}, "here")
    result = run(spec)
    assert result.outcome["by"] == "agent-2"
    (concluded,) = result.of_kind("env.changed")
    assert concluded.payload == {"answer": result.outcome["answer"], "by": "agent-2"}
