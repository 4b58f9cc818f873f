"""Games in which all move at once do not pretend to be played one after another."""

from __future__ import annotations

import pytest

from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.simulation.game import Game
from steerline.simulation.runner import run
from steerline.simulation.sample import sample
from steerline.simulation.scenarios import fishery, opinion, prisoners_dilemma, public_goods, ultimatum

GAMES = [
    prisoners_dilemma.game([("a", "grim"), ("b", "grim")], rounds=2),
    ultimatum.game([(name, "fair") for name in "abcd"], rounds=2),
    fishery.game([("a", "greedy"), ("b", "greedy")], months=2),
    opinion.game([("a", "bounded"), ("b", "bounded")], rounds=2),
    public_goods.game([("a", "cooperator"), ("b", "cooperator")], rounds=2),
]


@pytest.mark.parametrize("spec", GAMES, ids=lambda spec: spec.scenario)
def test_moving_one_after_another_is_refused(spec: SimulationSpec) -> None:
    with pytest.raises(SimulationError, match="at once") as refused:
        run(spec.model_copy(update={"engine": "sequential"}))
    assert "engine: simultaneous" in str(refused.value)


def test_two_may_bargain_one_after_the_other() -> None:
    spec = ultimatum.game([("a", "fair"), ("b", "fair")], rounds=2)
    in_turns = run(spec.model_copy(update={"engine": "sequential"}))
    assert in_turns.outcome["earned"] == run(spec).outcome["earned"]


@pytest.mark.parametrize("name", ["werewolf", "epidemic", "recommender"])
def test_a_world_that_moves_as_one_is_refused_before_it_begins(name: str) -> None:
    with pytest.raises(SimulationError, match=f"all move at once in {name}"):
        Game.of(sample(name).model_copy(update={"engine": "sequential"}))
