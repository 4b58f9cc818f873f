"""The simulations of a job."""

from __future__ import annotations

from typing import Any

import pytest

from steerline.config.simulate import SimulateSpec
from steerline.errors import ConfigError, SimulationError
from steerline.simulation.cells import cells
from tests.unit.experiments.jobs import debates, games


def test_every_combination_is_played_with_every_seed_and_seeds_are_paired() -> None:
    found = cells(games(grid={"params.rounds": (1, 2), "params.punishment": (False, True)}, seeds=(4, 5)))
    assert len(found) == 8
    assert len({cell.name for cell in found}) == 8
    assert {cell.spec.seed for cell in found[:4]} == {4}
    assert found[1].label == "rounds=1 punishment=true seed=4"
    assert found[1].spec.params["rounds"] == 1
    assert found[1].spec.params["punishment"] is True


def test_a_job_without_grid_and_seeds_is_its_simulation() -> None:
    (cell,) = cells(games())
    assert cell.spec == games().simulation
    assert cell.label == "seed=0"


def test_a_name_says_what_decides_the_course_and_nothing_else() -> None:
    (cell,) = cells(games())
    (renamed,) = cells(games().model_copy(update={"name": "other", "together": 3}))
    (longer,) = cells(games(grid={"params.rounds": (4,)}))
    assert cell.name == renamed.name != longer.name


def test_a_scenario_without_a_question_has_no_vote_to_stand_against() -> None:
    with pytest.raises(SimulationError, match="public_goods has no vote"):
        cells(games(baseline="vote"))


def test_what_is_found_out_beside_a_simulation_is_in_its_name() -> None:
    jobs = [debates(), debates(without=("paths",)), debates(without=("paths",), most_paths=3), debates(baseline="vote")]
    assert len({cells(job)[0].name for job in jobs}) == 4


def test_a_simulation_that_lists_one_agent_cannot_lose_its_last() -> None:
    one = debates().simulation.model_copy(update={"agents": debates().simulation.agents[:1]})
    with pytest.raises(SimulationError, match="no last agent"):
        cells(debates(without=("last_agent",)).model_copy(update={"simulation": one}))


def test_a_combination_that_is_no_simulation_is_refused_with_its_path() -> None:
    with pytest.raises(ConfigError, match="max_ticks"):
        cells(games(grid={"max_ticks": (0,)}))
    with pytest.raises(SimulationError, match="public_goods does not take these settings"):
        cells(games(grid={"params.rounds": (0,)}))


@pytest.mark.parametrize(
    ("grid", "what"),
    [
        ({"agents.0.brain.policy": ("clever",)}, "no scripted policy clever"),
        ({"agents.0.brain": ({"kind": "custom", "name": "nowhere:Brain"},)}, "nowhere:Brain cannot be imported"),
        ({"agents": ([{"id": "ann", "brain": {"kind": "scripted", "policy": "random"}}],)}, "needs others"),
    ],
)
def test_agents_who_cannot_play_are_found_before_anything_is_played(grid: dict[str, Any], what: str) -> None:
    with pytest.raises(SimulationError, match=what):
        cells(games(grid=grid))


@pytest.mark.parametrize(
    "fields", [{"seeds": (1, 1)}, {"grid": {"seed": (1, 2)}}, {"grid": {"max_ticks": ()}}], ids=str
)
def test_a_grid_that_says_nothing_or_the_same_twice_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SimulateSpec.model_validate(games().model_dump() | fields)


@pytest.mark.parametrize(
    "grid", [{"budgets.max_calls": (5, 10)}, {"durability.sync": (True, False)}, {"params.rounds": (3, 3)}], ids=str
)
def test_combinations_that_are_one_simulation_are_refused(grid: dict[str, tuple[object, ...]]) -> None:
    with pytest.raises(SimulationError, match="are one simulation"):
        cells(games(grid=grid))
