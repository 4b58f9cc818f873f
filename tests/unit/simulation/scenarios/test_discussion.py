"""Discussions of open questions, against theory and by their rules."""

from __future__ import annotations

import pytest

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
