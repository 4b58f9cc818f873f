"""The public goods game against its oracles."""

from __future__ import annotations

import pytest

from steerline.errors import SimulationError
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.runner import run
from steerline.simulation.scenarios.public_goods import PublicGoods, game

FOUR = [(name, "conditional") for name in "abcd"]


@pytest.mark.parametrize("oracle", PublicGoods.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


def test_the_same_spec_gives_the_same_history() -> None:
    assert run(game(FOUR)).hash == run(game(FOUR)).hash


def test_another_seed_gives_another_history() -> None:
    spec = game(FOUR)
    assert run(spec).hash != run(spec.model_copy(update={"seed": 1})).hash


def test_all_are_best_off_when_all_give_and_worst_when_none_does() -> None:
    for policy, share in (("cooperator", 1.0), ("free_rider", 0.0)):
        result = run(game([(name, policy) for name in "abcd"]))
        assert result.metrics[-1]["welfare_share"] == pytest.approx(share)
        assert set(result.outcome["types"].values()) == {policy}


def test_punishment_keeps_contributions_up() -> None:
    players = [("a", "punisher"), ("b", "punisher"), ("c", "opportunist"), ("d", "conditional")]
    without, with_it = (run(game(players, punishment=punishment)) for punishment in (False, True))
    assert with_it.series("mean_contribution")[-1] > 2 * without.series("mean_contribution")[-1]
    assert with_it.metrics[-1]["punishment"] > 0


def test_a_round_with_punishment_is_one_tick_of_two_sub_rounds() -> None:
    result = run(game(FOUR, punishment=True, rounds=2))
    assert result.tick == 2
    assert [event.payload["round"] for event in result.of_kind("action.taken")] == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4


def test_points_of_punishment_are_paid_for() -> None:
    players = [("a", "punisher"), ("b", "free_rider")]
    result = run(game(players, punishment=True, rounds=1))
    # a gives 10 and takes 5 points off b: 20 - 10 + 4 - 5 for a, 20 + 4 - 15 for b.
    assert result.state["earned"] == {"a": 9.0, "b": 9.0}


def test_a_game_alone_is_refused() -> None:
    with pytest.raises(SimulationError, match="needs others"):
        run(game([("a", "cooperator")]))
