"""The iterated prisoner's dilemma against the Markov chains of its automata."""

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
from steerline.simulation.scenarios.automata import AUTOMATA, expected_score, replicator, score_matrix
from steerline.simulation.scenarios.prisoners_dilemma import (
    PrisonersDilemma,
    PrisonersDilemmaParams,
    game,
    tournament,
)
from steerline.simulation.turn import Decision, Turn

PAYOFFS = PrisonersDilemmaParams().payoffs
DETERMINISTIC = [name for name, automaton in AUTOMATA.items() if set(automaton.cooperates) <= {0.0, 1.0}]


@pytest.mark.parametrize("oracle", PrisonersDilemma.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


def test_a_tournament_of_pure_strategies_scores_exactly_as_their_chains_say() -> None:
    outcome = run(tournament(DETERMINISTIC, rounds=6)).outcome
    exact = score_matrix(sorted(DETERMINISTIC), PAYOFFS, rounds=6)
    found = np.array([list(row.values()) for row in outcome["scores"].values()])
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)
    assert outcome["shares"] == pytest.approx(dict(zip(sorted(DETERMINISTIC), replicator(exact, 200), strict=True)))


def test_axelrods_tournament_comes_out_as_published() -> None:
    """Nice strategies that strike back win without noise; with it defection pays, and blind trust comes last."""
    names = list(AUTOMATA)
    clean, noisy = (score_matrix(names, PAYOFFS, 200, noise).mean(axis=1) for noise in (0.0, 0.05))
    means = dict(zip(names, clean.round(2), strict=True))
    assert (means["grim"], means["tit_for_tat"], means["tit_for_two_tats"]) == (2.75, 2.66, 2.61)
    assert [names[i] for i in np.argsort(-clean)[[0, 1, 2, -1]]] == [
        "grim", "tit_for_tat", "tit_for_two_tats", "defector",
    ]  # fmt: skip
    assert [names[i] for i in np.argsort(-noisy)[[1, -1]]] == ["defector", "cooperator"]


def test_noise_locks_two_tit_for_tats_into_a_random_walk() -> None:
    """Molander 1985: with any noise they end up in all four outcomes equally often."""
    tat = AUTOMATA["tit_for_tat"]
    assert expected_score(tat, tat, PAYOFFS, 20_000, noise=0.05) == pytest.approx((3 + 0 + 5 + 1) / 4, abs=1e-2)


def test_replicator_dynamics_drive_defection_out_where_reciprocity_is_common() -> None:
    shares = replicator(score_matrix(["tit_for_tat", "defector"], PAYOFFS, 200), generations=200)
    assert shares[0] > 0.999
    shares = replicator(score_matrix(["cooperator", "defector"], PAYOFFS, 200), generations=200)
    assert shares[1] > 0.999


@pytest.mark.parametrize("players", [2, 4, 5])
def test_everybody_meets_everybody_once(players: int) -> None:
    rounds = 2
    state = run(game([(f"p{n}", "cooperator") for n in range(players)], rounds=rounds)).state
    everyone = {f"p{n}" for n in range(players)}
    for agent, met in state["points"].items():
        assert met == {other: [rounds, 3.0 * rounds] for other in everyone - {agent}}


def test_a_new_match_starts_with_a_clean_slate() -> None:
    result = run(game([("a", "grim"), ("b", "defector"), ("c", "cooperator")], rounds=3))
    assert result.state["points"]["a"] == {"b": [3, 0 + 1 + 1], "c": [3, 9.0]}


def test_the_same_spec_gives_the_same_history_and_another_seed_another() -> None:
    spec = game([("a", "random"), ("b", "generous")], rounds=8, noise=0.1)
    assert run(spec).hash == run(spec).hash != run(spec.model_copy(update={"seed": 1})).hash


def test_habits_are_read_off_the_moves() -> None:
    players = run(game([("a", "tit_for_tat"), ("b", "defector")], rounds=5)).outcome["players"]
    assert players["a"]["replies"] == {"CC": None, "CD": 0.0, "DC": None, "DD": 0.0}
    assert players["a"]["cooperation"] == 0.2
    assert players["a"]["forgiveness"] == 0.0
    generous = run(game([("a", "cooperator"), ("b", "defector")], rounds=5)).outcome["players"]["a"]
    assert (generous["forgiveness"], generous["replies"]["CD"]) == (1.0, 1.0)


def test_shares_are_not_made_up_where_a_strategy_never_met_its_own_kind() -> None:
    assert run(game([("a", "grim"), ("b", "random")], rounds=2)).outcome["shares"] == {}


def test_a_flipped_move_is_what_both_see() -> None:
    result = run(game([("a", "cooperator"), ("b", "grim")], rounds=6, noise=0.5))
    moves = [event.payload["moves"] for event in result.of_kind("env.changed")]
    flipped = [event.payload["flipped"] for event in result.of_kind("env.changed")]
    assert any(flipped)
    assert all((move["a"] == "D") == ("a" in flips) for move, flips in zip(moves, flipped, strict=True))


class Says:
    """Answers every turn with one text."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        return [Decision(self.text) for _ in turns]


def test_an_answer_that_cannot_be_read_defects_and_is_recorded() -> None:
    result = run(game([("a", "grim"), ("b", "grim")], rounds=1), Says("cooperate or defect, who knows"))
    reasons = [event.payload["reason"] for event in result.of_kind("action.invalid")]
    assert len(reasons) == 2
    assert all("several legal values" in reason for reason in reasons)
    assert result.metrics[-1]["mean_score"] == 1.0


def test_a_player_sees_its_own_match_and_no_other() -> None:
    scenario = PrisonersDilemma(PrisonersDilemmaParams(rounds=3))
    state = scenario.reset([Seat(name) for name in "abcd"], CounterRng(0))
    state = {**state, "played": 1, "moves": {"a": "C", "d": "D", "b": "D", "c": "D"}}
    seen = scenario.observe(state, "a")
    assert (seen.facts["own"], seen.facts["other"], seen.facts["opponent"]) == ("C", "D", "d")
    prompt = scenario.prompt(seen, Profile())
    assert "Round 2 of 3" in prompt.user
    assert "b" not in seen.text.split()


def test_the_horizon_can_be_hidden() -> None:
    scenario = PrisonersDilemma(PrisonersDilemmaParams(rounds=3, horizon_told=False))
    seen = scenario.observe(scenario.reset([Seat("a"), Seat("b")], CounterRng(0)), "a")
    assert "of 3" not in seen.text


def test_a_player_alone_and_payoffs_without_a_dilemma_are_refused() -> None:
    with pytest.raises(SimulationError, match="needs another"):
        run(game([("a", "grim"), ("b", "grim")]).model_copy(update={"agents": game([("a", "grim")]).agents}))
    with pytest.raises(SimulationError, match="no dilemma"):
        run(game([("a", "grim"), ("b", "grim")]).model_copy(update={"params": {"temptation": 2.0}}))
