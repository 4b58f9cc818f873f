"""What somebody outside may make of a state: values of the kinds that stand there, with which the scenario goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from steerline.config.simulation_agents import Profile
from steerline.errors import SimulationError
from steerline.simulation.control import Controls
from steerline.simulation.game import Game
from steerline.simulation.names import SCENARIOS
from steerline.simulation.observation import Observation
from steerline.simulation.parsing import answer
from steerline.simulation.reshaping import reshaped
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.sample import sample
from steerline.simulation.scenario import Seat
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.worlds import spec

GAME = Game.of(spec("conditional", "conditional"))
RNG = CounterRng(0).at(3)
AGENTS = {agent.id: agent for agent in GAME.spec.agents}
STATE: dict[str, Any] = {
    **GAME.scenario.reset([Seat("a"), Seat("b")], GAME.rng.within("reset")),  # what the scenario itself reads
    "share": 0.5,
    "names": ["a", "b"],
    "field": np.zeros((2, 2)),
    "count": np.zeros((), dtype=np.int64),
    "nothing": None,
    "flag": True,
}


def test_values_take_the_kind_of_those_whose_place_they_take() -> None:
    fields = {"share": 1, "names": ["c"], "field": [[1, 2], [3, 4]], "nothing": {"any": [1]}, "flag": False}
    new = reshaped(GAME.scenario, STATE, fields, AGENTS, RNG)
    assert (new["share"], type(new["share"])) == (1.0, float)
    assert new["names"] == ["c"]
    assert new["field"].dtype == np.float64
    assert new["nothing"] == {"any": [1]}
    assert STATE["share"] == 0.5


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"weather": 1}, "no field weather"),
        ({"share": "half"}, "another kind"),
        ({"share": True}, "another kind"),
        ({"names": [1]}, "another kind"),
        ({"names": "c"}, "another kind"),
        ({"field": [1, 2]}, "another shape"),
        ({"field": [["x", "y"], ["z", "w"]]}, "an array of float64"),
        ({"flag": 1}, "another kind"),
        ({"share": float("nan")}, "not plain data"),
        ({"share": 10**400}, "another size"),
        ({"count": 10**30}, "an array of int64"),
    ],
)
def test_other_kinds_shapes_and_fields_are_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(SimulationError, match=what):
        reshaped(GAME.scenario, STATE, fields, AGENTS, RNG)


def test_a_state_that_the_scenario_cannot_go_on_from_is_refused() -> None:
    game = Game.of(sample("public_goods"))
    store = MemoryStore()
    result = run(game.spec, store=store, sim="s", ticks=1)
    lists = [name for name, value in result.state.items() if isinstance(value, dict) and value]
    agents = {agent.id: agent for agent in game.spec.agents}
    with pytest.raises(SimulationError, match="cannot go on"):
        reshaped(game.scenario, result.state, {lists[0]: {}}, agents, RNG)


def test_a_state_that_a_policy_cannot_go_on_from_is_refused_also_where_that_takes_two_ticks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def once(seen: Observation, profile: Profile, rng: CounterRng) -> str:
        return answer({0: 1}[len(seen.facts["given"])])

    monkeypatch.setitem(GAME.scenario.scripted, "conditional", once)  # type: ignore[arg-type]
    with pytest.raises(SimulationError, match=r"cannot go on from this state \(KeyError\)"):
        reshaped(GAME.scenario, STATE, {"share": 1}, AGENTS, RNG)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_field_of_the_wrong_kind_never_breaks_a_run(scenario: str) -> None:
    """Each field in turn is set to a text, a number and a list; the run ends as it would have."""
    one = sample(scenario, ticks=2)
    plain = run(one, sim="s")
    store = MemoryStore()
    run(one, store=store, sim="s", ticks=1)
    state = run(one, sim="s", ticks=1).state
    for name in state:
        for value in ("soon", 7.5, ["x"]):
            Controls(store, "s").set_state({name: value})
    result = run(one, store=store, sim="s")
    assert result.status == plain.status
    store.drop_snapshots("s")
    assert run(one, store=store, sim="s").hash == result.hash
