"""Opinion dynamics against their theorems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from steerline.config.simulation_agents import Profile
from steerline.errors import SimulationError
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Seat
from steerline.simulation.scenarios.opinion import Opinion, OpinionParams, game
from steerline.simulation.scenarios.opinion_dynamics import (
    NetworkKind,
    Opinions,
    bounded_confidence,
    camps,
    degroot,
    influence,
    network,
    polarisation,
)
from steerline.simulation.turn import Decision, Turn

KINDS: tuple[NetworkKind, ...] = ("complete", "ring", "star", "regular", "small_world", "scale_free")


class Says:
    """Answers every turn with one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.seen: list[Turn] = []

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        self.seen += turns
        return [Decision(self.text) for _ in turns]


def settled(seed: int, confidence: float, people: int = 100) -> Opinions:
    """Opinions that have come to rest under bounded confidence."""
    opinions = np.random.default_rng(seed).random(people)
    for _ in range(1000):
        moved = bounded_confidence(opinions, None, confidence)
        if np.abs(moved - opinions).max() < 1e-9:
            return moved
        opinions = moved
    raise AssertionError("opinions have not come to rest")


@pytest.mark.parametrize("oracle", Opinion.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


def test_the_same_spec_gives_the_same_history_and_another_seed_another() -> None:
    spec = game([("a", "bounded"), ("b", "contrarian")], rounds=5, network="small_world", rule="bounded_confidence")
    assert run(spec).hash == run(spec).hash != run(spec.model_copy(update={"seed": 1})).hash


@pytest.mark.parametrize("kind", KINDS)
def test_averaging_keeps_the_weighted_mean(kind: NetworkKind) -> None:
    opinions = np.random.default_rng(0).random(60)
    links = network(kind, 4, 60, key=7)
    weights = influence(links, 60)
    moved = opinions
    for _ in range(20):
        moved = degroot(moved, links, 0.3)
    assert weights.sum() == pytest.approx(1.0)
    assert weights @ moved == pytest.approx(weights @ opinions, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_move_as_the_definitions_say(kind: NetworkKind) -> None:
    """Each step, person by person, straight from the formulas."""
    count, reach, own = 40, 0.2, 0.3
    opinions = np.random.default_rng(1).random(count)
    links = network(kind, 4, count, key=3)
    heard = [
        [n for n in range(count) if n != one]
        if links is None
        else list(links.others[links.starts[one] : links.starts[one + 1]])
        for one in range(count)
    ]
    near = [[one, *(n for n in heard[one] if abs(opinions[n] - opinions[one]) <= reach)] for one in range(count)]
    averaged = [own * opinions[one] + (1 - own) * np.mean(opinions[heard[one]]) for one in range(count)]
    np.testing.assert_allclose(degroot(opinions, links, own), averaged, atol=1e-12)
    expected = [np.mean(opinions[people]) for people in near]
    np.testing.assert_allclose(bounded_confidence(opinions, links, reach), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("confidence", "low", "high"),
    [(0.05, 7, 9), (0.1, 3.5, 4.5), (0.15, 2, 3), (0.2, 1, 2), (0.25, 1, 2), (0.3, 1, 1.1)],
)
def test_fewer_camps_are_left_the_farther_people_listen(confidence: float, low: float, high: float) -> None:
    """Hegselmann and Krause's picture for 100 random people, as a mean over seeds."""
    counts = [len(camps(settled(seed, confidence), 0.01)) for seed in range(30)]
    assert low <= np.mean(counts) <= high


def test_bounded_confidence_keeps_the_order_of_opinions() -> None:
    opinions = np.sort(np.random.default_rng(2).random(200))
    for _ in range(30):
        opinions = bounded_confidence(opinions, None, 0.1)
        assert np.all(np.diff(opinions) >= -1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rule", "policy"), [("degroot", "degroot"), ("bounded_confidence", "bounded")])
def test_an_agent_with_the_crowds_rule_moves_as_one_of_the_crowd(rule: str, policy: str, kind: str) -> None:
    scenario = Opinion(OpinionParams.model_validate({"rule": rule, "network": kind, "inhabitants": 30}))
    state = scenario.reset([Seat("a")], CounterRng(5))
    alone = scenario.resolve({**state, "agents": {}}, {}, CounterRng(0)).state["opinions"]
    seen = scenario.observe(state, "a")
    parsed = scenario.parse(Opinion.scripted[policy](seen, Profile(), CounterRng(0)), seen.legal)
    assert parsed.status == "ok"
    assert parsed.payload == pytest.approx(alone[0], abs=1e-12)


def test_one_who_does_not_move_wins_all_over() -> None:
    result = run(game([("a", "stubborn")], {"a": 0.9}, inhabitants=20, rounds=2000, tolerance=1e-9))
    np.testing.assert_allclose(result.state["opinions"], 0.9, atol=1e-6)


def test_those_who_know_the_truth_draw_the_others_to_it() -> None:
    players = [(name, "truth_seeker") for name in "abcdefgh"]
    spec = game(players, inhabitants=40, rule="bounded_confidence", confidence=0.3, truth=0.8, rounds=60)
    informed = tuple(
        agent.model_copy(update={"profile": Profile(attributes={"informed": True})}) for agent in spec.agents
    )
    with_proof, without = run(spec.model_copy(update={"agents": informed})), run(spec)
    assert with_proof.metrics[-1]["truth_distance"] < 0.05
    assert without.metrics[-1]["truth_distance"] > 0.2
    assert with_proof.metrics[-1]["bias"] == pytest.approx(with_proof.metrics[-1]["mean"] - 0.8)


def test_only_the_informed_see_the_truth() -> None:
    scenario = Opinion(OpinionParams(truth=0.8125, inhabitants=10))
    state = scenario.reset([Seat("a", Profile(attributes={"informed": True})), Seat("b")], CounterRng(0))
    prompts = {agent: scenario.prompt(scenario.observe(state, agent), Profile()) for agent in "ab"}
    assert "0.8125" in prompts["a"].user
    assert "0.8125" not in prompts["b"].system + prompts["b"].user
    assert "truth" not in scenario.observe(state, "b").facts


def test_those_at_the_very_edge_of_confidence_are_still_heard() -> None:
    opinions = np.array([0.5, 0.0, 0.25])
    np.testing.assert_array_equal(bounded_confidence(opinions, None, 0.25), [0.375, 0.125, 0.25])
    np.testing.assert_array_equal(bounded_confidence(opinions, None, 0.0), opinions)


def test_an_agent_that_is_not_asked_keeps_its_opinion() -> None:
    scenario = Opinion(OpinionParams(inhabitants=10))
    state = scenario.reset([Seat("a")], CounterRng(0))
    moved = scenario.resolve(state, {}, CounterRng(0)).state["opinions"]
    assert moved[0] == state["opinions"][0]
    assert np.all(moved[1:] != state["opinions"][1:])


def test_an_answer_that_cannot_be_read_leaves_the_opinion_where_it_was() -> None:
    result = run(game([("a", "stubborn")], {"a": 0.25}, inhabitants=5, rounds=1), Says("I rather like it. ANSWER: 7"))
    assert result.state["opinions"][0] == 0.25
    assert len(list(result.of_kind("action.invalid"))) == 1


def test_agents_read_each_others_words_marked_as_theirs() -> None:
    says = Says("It is cheap.\nANSWER: 0.5")
    run(game([("a", "stubborn"), ("b", "stubborn")], inhabitants=10, rounds=2, tolerance=0), says)
    second = [turn.observation for turn in says.seen if turn.observation.tick == 1]
    assert [[message.sender for message in seen.messages] for seen in second] == [["b"], ["a"]]
    assert [message.data for message in second[0].messages] == [0.5]


def test_a_run_ends_when_nobody_moves() -> None:
    result = run(game([("a", "bounded")], rule="bounded_confidence", confidence=1.0, inhabitants=10))
    assert result.tick == 2
    assert result.outcome["settled"] == 2
    assert result.outcome["camp_sizes"] == [10]


def test_polarisation_is_1_for_two_extreme_halves_and_0_for_one_mind() -> None:
    assert polarisation(np.repeat([0.0, 1.0], 50)) == pytest.approx(1.0)
    assert polarisation(np.full(50, 0.3)) == pytest.approx(0.0, abs=1e-12)
    opinions = np.random.default_rng(3).random(30)
    distances = np.abs(opinions[:, None] - opinions[None, :])
    assert polarisation(opinions) == pytest.approx(4 * distances.var())


def test_camps_are_parted_by_gaps() -> None:
    assert camps(np.array([0.5, 0.1, 0.505, 0.9]), 0.01) == [(0.1, 1), (pytest.approx(0.5025), 2), (0.9, 1)]


def test_a_town_that_is_too_small_and_an_opinion_off_the_scale_are_refused() -> None:
    with pytest.raises(SimulationError, match="too small"):
        run(game([(name, "stubborn") for name in "abc"], inhabitants=2))
    with pytest.raises(SimulationError, match="outside its scale"):
        run(game([("a", "stubborn")], {"a": 1.5}))
