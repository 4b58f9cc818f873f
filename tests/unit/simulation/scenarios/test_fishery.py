"""The fishery against the law of its stock."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from steerline.config.simulation_agents import Profile
from steerline.errors import SimulationError
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Seat
from steerline.simulation.scenarios.fishery import Fishery, FisheryParams, game
from steerline.simulation.scenarios.fishery_theory import fate_of_random_fishers
from steerline.simulation.turn import Decision, Turn


class Says:
    """Answers talk and catches with set texts."""

    def __init__(self, talk: str, catch: str) -> None:
        self.texts = {"talk": talk, "catch": catch}

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        return [Decision(self.texts[turn.observation.facts["stage"]]) for turn in turns]


@pytest.mark.parametrize("oracle", Fishery.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


def test_the_same_spec_gives_the_same_history_and_another_seed_another() -> None:
    spec = game([("a", "random"), ("b", "covenant")], months=3)
    assert run(spec).hash == run(spec).hash != run(spec.model_copy(update={"seed": 1})).hash


def test_the_law_of_the_stock_is_that_of_a_coin_where_it_can_be_counted_by_hand() -> None:
    """Two fishers on 2 tons want 0 or 1 each: 0, 1 and 2 tons are caught with chances 1/4, 1/2, 1/4."""
    fate = fate_of_random_fishers(2, 1.0, months=2, capacity=2, growth=2.0, lowest=1)
    assert fate.survival == pytest.approx(0.75**2)
    assert fate.months == pytest.approx(1 + 0.75)
    assert fate.gain == pytest.approx((1 + 0.75) * 1.0 / 2)


def test_the_law_of_the_stock_counts_no_fish_that_are_not_there() -> None:
    """Two fishers on 2 tons want 0, 1 or 2 each: 1 ton is caught with the chance 2/9, both with 6/9."""
    fate = fate_of_random_fishers(2, 2.0, months=1, capacity=2, growth=2.0, lowest=1)
    assert fate.gain == pytest.approx((2 / 9 * 1 + 6 / 9 * 2) / 2)
    assert fate.survival == pytest.approx(3 / 9)


def test_a_village_of_the_greedy_has_one_month() -> None:
    result = run(game([(name, "greedy") for name in "abcde"]))
    assert (result.tick, result.outcome["collapsed"], result.outcome["survived"]) == (1, True, 1.0)
    assert result.outcome["over_usage"] == 1.0
    assert sorted(result.state["earned"].values()) == [0, 0, 0, 0, 100]


def test_no_more_is_caught_than_there_is() -> None:
    result = run(game([(name, "random") for name in "abcde"], greed=5.0, talks=0))
    for event in result.of_kind("env.changed"):
        assert event.payload["left"] >= 0
        assert all(event.payload["caught"][one] <= tons for one, tons in event.payload["wanted"].items())


def test_one_deceiver_gains_by_the_restraint_of_others_and_imitation_ruins_the_lake() -> None:
    kept = run(game([("a", "deceiver"), *((name, "sustainable") for name in "bcde")])).outcome
    assert kept["earned"]["a"] > max(kept["earned"][name] for name in "bcde")
    ruined = run(game([("a", "deceiver"), *((name, "imitator") for name in "bcde")])).outcome
    assert ruined["mean_gain"] < kept["mean_gain"]


def test_talk_reaches_the_catch_of_the_same_month() -> None:
    """A proposal of 3 tons binds those who keep covenants."""
    spec = game([("a", "covenant"), ("b", "covenant")], months=1)

    class Proposes(Says):
        async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
            talks = [turn for turn in turns if turn.observation.facts["stage"] == "talk"]
            if talks:
                return await super().decide(turns)
            policy = Fishery.scripted["covenant"]
            return [Decision(policy(turn.observation, turn.agent.profile, turn.rng)) for turn in turns]

    assert run(spec, Proposes("At most 3 tons, please.", "")).state["earned"] == {"a": 3, "b": 3}


def test_talk_comes_before_each_catch_in_one_tick() -> None:
    result = run(game([("a", "covenant"), ("b", "covenant")], months=2, talks=2))
    assert result.tick == 2
    assert [event.payload["round"] for event in result.of_kind("action.taken")] == [0, 0, 1, 1, 2, 2] * 2
    assert len(list(result.of_kind("msg.sent"))) == 8


def test_a_catch_beyond_the_stock_is_refused_and_recorded() -> None:
    result = run(game([("a", "greedy"), ("b", "greedy")], months=1), Says("No limits.", "ANSWER: 101"))
    assert [event.payload["payload"] for event in result.of_kind("action.invalid") if event.payload["round"] == 1] == [
        0,
        0,
    ]
    assert result.state["stock"] == 100


def test_the_hint_can_be_left_out() -> None:
    state = Fishery(FisheryParams()).reset([Seat("a"), Seat("b")], CounterRng(0))
    with_hint, without = (Fishery(FisheryParams(hint=hint)).observe(state, "a").text for hint in (True, False))
    assert "at most 25 tons" in with_hint
    assert "25" not in without


def test_what_a_villager_catches_is_known_only_once_all_have_decided() -> None:
    scenario = Fishery(FisheryParams(talks=0))
    state = scenario.reset([Seat("a"), Seat("b")], CounterRng(0))
    assert "Caught" not in scenario.prompt(scenario.observe(state, "a"), Profile()).user


def test_a_villager_alone_is_refused() -> None:
    with pytest.raises(SimulationError, match="needs others"):
        run(game([("a", "greedy")]))
