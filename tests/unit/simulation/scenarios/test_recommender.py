"""The recommender against its oracles, and what its users know and do."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from pydantic import ValidationError

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import Profile, ScriptedBrain, TablePopulation
from steerline.errors import SimulationError
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Seat
from steerline.simulation.scenarios.recommender import GENRES, Recommender, RecommenderParams, game, gini


@pytest.mark.parametrize("oracle", Recommender.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


def mean(name: str, seeds: int = 8, **params: object) -> list[float]:
    """A metric by page, the mean over seeds."""
    spec = game(["picky"] * 12, **params)
    runs = [run(spec.model_copy(update={"seed": seed})).series(name) for seed in range(seeds)]
    return [fmean(values) for values in zip(*runs, strict=False)]


def test_users_are_happier_the_more_the_recommender_knows() -> None:
    order = ("random", "popular", "factor", "oracle")
    satisfaction = [mean("satisfaction", algorithm=algorithm, common=0.7)[-1] for algorithm in order]
    assert satisfaction == sorted(satisfaction)
    assert satisfaction[0] < 0.95 * satisfaction[2]


def test_popularity_feeds_on_itself() -> None:
    rising = mean("gini", algorithm="popular", repeat=True, items=40)
    assert rising == sorted(rising)
    assert rising[-1] > 1.2 * mean("gini", algorithm="random", repeat=True, items=40)[-1]


def test_pages_narrow_when_the_recommender_learns_from_choices() -> None:
    entropy = mean("entropy", algorithm="factor", pages=6)
    assert entropy[-1] < 0.8 * entropy[0]


def test_the_same_spec_gives_the_same_history_and_another_seed_another() -> None:
    spec = game(["picky", "fickle", "easygoing"], algorithm="popular")
    assert run(spec).hash == run(spec).hash
    assert run(spec).hash != run(spec.model_copy(update={"seed": 1})).hash


def test_no_item_is_shown_twice_unless_it_may_be() -> None:
    for algorithm in ("random", "popular", "factor", "oracle"):
        shown = run(game(["fickle"] * 3, algorithm=algorithm)).state["shown"]
        assert shown.max() == 1
        assert shown.sum() == 3 * 8 * 5
    assert run(game(["easygoing"], algorithm="oracle", repeat=True)).state["shown"].max() == 8


def test_users_who_find_nothing_leave_and_are_shown_nothing_more() -> None:
    spec = game(["picky", "easygoing"], algorithm="random")
    bored = spec.agents[0].model_copy(update={"profile": Profile(attributes={"threshold": 2.0, "patience": 2})})
    result = run(spec.model_copy(update={"agents": (bored, spec.agents[1])}))
    assert result.state["gone"] == ["user-000"]
    assert result.state["shown"].sum(axis=1).tolist() == [2 * 5, 8 * 5]
    assert result.metrics[-1]["exit_rate"] == 0.5


def test_the_run_ends_when_all_have_left() -> None:
    spec = game(["picky"], algorithm="random")
    bored = spec.agents[0].model_copy(update={"profile": Profile(attributes={"threshold": 2.0, "patience": 1})})
    assert run(spec.model_copy(update={"agents": (bored,)})).tick == 1


def test_tastes_come_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "ratings.csv"
    table.write_text("action,comedy,drama\n0.9,0.1,0.5\n0.2,0.8,0.4\n")
    people = TablePopulation(
        kind="table",
        path=str(table),
        attributes=("action", "comedy", "drama"),
        brain=ScriptedBrain(kind="scripted", policy="picky"),
    )
    result = run(SimulationSpec(scenario="recommender", population=people, max_ticks=8))
    columns = [GENRES.index(genre) for genre in ("action", "comedy", "drama")]
    assert result.state["tastes"][:, columns].tolist() == [[0.9, 0.1, 0.5], [0.2, 0.8, 0.4]]


@pytest.mark.parametrize("taste", [1.5, "much", float("nan")])
def test_a_taste_that_is_none_is_refused(taste: float | str) -> None:
    seat = Seat("ann", Profile.model_construct(attributes={"comedy": taste}))
    with pytest.raises(SimulationError, match="from 0 to 1"):
        Recommender(RecommenderParams()).reset([seat], CounterRng(0))


def test_a_user_knows_its_own_tastes_and_nobody_elses() -> None:
    scenario = Recommender(RecommenderParams())
    people = [Seat("ann", Profile(attributes={"comedy": 0.111})), Seat("bob", Profile(attributes={"comedy": 0.999}))]
    state = scenario.reset(people, CounterRng(0))
    seen = scenario.observe(state, "bob")
    assert "comedy 1.00" in seen.private
    assert "0.11" not in seen.private + seen.text
    assert "comedy 1.00" not in seen.text
    assert seen.facts["tastes"]["comedy"] == 1.0


def test_what_cannot_be_read_takes_nothing_and_is_counted() -> None:
    scenario = Recommender(RecommenderParams())
    seen = scenario.observe(scenario.reset([Seat("ann")], CounterRng(0)), "ann")
    first = seen.facts["page"][0][0]
    assert scenario.parse(f"I would take {first}.", seen.legal).payload == first
    parsed = scenario.parse("ANSWER: m99", seen.legal)
    assert (parsed.payload, parsed.status) == ("none", "defaulted")


def test_a_catalogue_without_users_is_refused() -> None:
    with pytest.raises(SimulationError, match="nobody to recommend to"):
        Recommender(RecommenderParams()).reset([], CounterRng(0))


def test_a_catalogue_that_runs_out_is_refused() -> None:
    with pytest.raises(ValidationError, match="too few items"):
        RecommenderParams(items=39, pages=8, page_size=5)


def test_gini_of_equal_counts_is_none_and_of_one_that_has_all_is_near_one() -> None:
    assert gini(np.array([3, 3, 3])) == 0
    assert gini(np.array([0] * 99 + [5])) == pytest.approx(0.99)
