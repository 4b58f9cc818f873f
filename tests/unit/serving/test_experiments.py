"""Experiments: a grid over seeds, and what its numbers say."""

from __future__ import annotations

import pytest

from steerline.errors import ConfigError
from steerline.evaluation.statistics import bootstrap_interval, t_interval
from steerline.serving import experiments
from steerline.serving.experiments import members, summary
from tests.unit.simulation.worlds import spec

GAME = spec("conditional", "free_rider")


def test_every_combination_is_played_with_every_seed_first_seeds_first() -> None:
    found = members(GAME, {"params.punishment": [False, True], "max_ticks": [2, 3]}, [5, 6])
    assert [member.spec.seed for member in found] == [5] * 4 + [6] * 4
    assert [dict(member.values) for member in found[:2]] == [
        {"params.punishment": False, "max_ticks": 2},
        {"params.punishment": False, "max_ticks": 3},
    ]
    assert [member.spec.max_ticks for member in found[:2]] == [2, 3]
    assert [member.spec for member in members(GAME, {}, [])] == [GAME]


@pytest.mark.parametrize(
    ("grid", "seeds", "path"),
    [({"max_ticks": []}, [], "grid"), ({"max_ticks": list(range(1, 2000))}, [], "grid"), ({}, [1, 1], "seeds")],
)
def test_an_experiment_that_is_none_is_refused_at_its_place(
    grid: dict[str, list[int]], seeds: list[int], path: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        members(GAME, grid, seeds)
    assert caught.value.problems[0].path == path


def test_an_experiment_has_no_more_agents_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "MOST_AGENTS", 3 * len(GAME.agents))
    assert len(members(GAME, {}, [1, 2, 3])) == 3
    with pytest.raises(ConfigError) as caught:
        members(GAME, {}, [1, 2, 3, 4])
    assert "too many agents" in caught.value.problems[0].what


def test_a_mean_over_few_seeds_has_students_interval_and_over_many_the_bootstraps() -> None:
    few, many = [1.0, 2.0, 4.0], [float(n % 7) for n in range(40)]
    rows = [{"x": value, "once": 3.0} if n == 0 else {"x": value} for n, value in enumerate(few)]
    found = summary(rows)
    assert found["x"] == (3, t_interval(few), True)
    assert found["once"][0] == 1
    assert found["once"][2] is False
    assert summary([{"x": value} for value in many])["x"] == (40, bootstrap_interval(many), True)
    assert summary([{"x": float("inf")}]) == {}
