"""Many simulations in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_running import BudgetSpec
from steerline.experiments.host import play_all
from steerline.experiments.played import FILES, Played
from steerline.inference.request import Failure, GenResult
from steerline.simulation.bundle import read_bundle
from steerline.simulation.cells import Cell, cells
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Resolution
from steerline.simulation.scenarios.debate import voting
from steerline.simulation.scenarios.public_goods import PublicGoods
from tests.unit.experiments.jobs import debates, games
from tests.unit.simulation.worlds import MODEL, Server

SEEDS = (0, 1, 2)


def _play(found: list[Cell], folder: Path) -> tuple[list[Played], list[str]]:
    said: list[str] = []
    return play_all(found, folder, 2, said.append), said


def test_simulations_played_together_are_those_played_alone(tmp_path: Path) -> None:
    found = cells(games(seeds=SEEDS))
    played, said = _play(found, tmp_path)
    assert [one.hash for one in played] == [run(cell.spec, sim=cell.name).hash for cell in found]
    assert len(said) == 3
    assert all("ended after 3 ticks" in line for line in said)


def test_each_leaves_a_bundle_a_transcript_and_its_numbers(tmp_path: Path) -> None:
    (cell,) = cells(debates())
    ((played,), _) = _play([cell], tmp_path)
    folder = tmp_path / cell.name
    assert {path.name for path in folder.iterdir()} >= {*FILES, "played.json", "simulation.sqlite"}
    assert read_bundle(folder).events[-1].hash == played.hash
    first = json.loads((folder / "transcript.jsonl").read_text().splitlines()[0])
    assert first["question"].endswith("= ?")
    assert first["agent"] == "agent-1"
    assert played.efficiency["messages"] == 3
    assert played.outcome["rounds"] == 1
    assert Played.load(folder) == played


def test_what_has_ended_is_not_played_again(tmp_path: Path) -> None:
    found = cells(games(seeds=SEEDS))
    first, _ = _play(found[:2], tmp_path)
    again, said = _play(found, tmp_path)
    assert again[:2] == first
    assert len(said) == 1


def test_a_paused_simulation_goes_on_when_its_budget_is_raised(tmp_path: Path) -> None:
    (cell,) = cells(games())
    tight = Cell(cell.name, {}, cell.spec.model_copy(update={"budgets": BudgetSpec(max_seconds=1e-9)}))
    ((paused,), said) = _play([tight], tmp_path)
    assert paused.state == "paused"
    assert "max_seconds" in said[0]
    ((ended,), _) = _play([cell], tmp_path)
    assert ended.state == "ended"
    assert ended.hash == run(cell.spec, sim=cell.name).hash


def test_a_simulation_that_fails_says_why_and_leaves_the_others_alone(tmp_path: Path) -> None:
    good, bad = cells(games(seeds=(0, 1)))
    alone = bad.spec.model_copy(update={"agents": bad.spec.agents[:1]})
    (ended, failed), _ = _play([good, Cell("bad", {}, alone)], tmp_path)
    assert ended.state == "ended"
    assert failed.state == "failed"
    assert "needs others" in failed.reason


def test_a_scenario_of_somebodys_own_that_raises_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cells(games(seeds=(0, 1)))
    resolve = PublicGoods.resolve

    def faulty(self: PublicGoods, state: Any, actions: Any, rng: CounterRng) -> Resolution:
        if rng.seed == 1:
            raise KeyError("pot")
        return resolve(self, state, actions, rng)

    monkeypatch.setattr(PublicGoods, "resolve", faulty)
    (ended, failed), _ = _play(found, tmp_path)
    assert ended.state == "ended"
    assert failed.state == "failed"
    assert failed.reason.startswith("KeyError: 'pot'")
    assert "test_host.py" in failed.reason


def test_a_debate_is_set_against_a_vote_that_costs_as_much(tmp_path: Path) -> None:
    found = cells(debates(seeds=SEEDS, baseline="vote"))
    played, _ = _play(found, tmp_path)
    for cell, one in zip(found, played, strict=True):
        worth = one.efficiency
        assert worth["voters"] == worth["turns"] == 6
        assert worth["vote_correct"] == float(run(voting(cell.spec, 6)).outcome["correct"])
        assert worth["equal_budget_gain"] == worth["correct"] - worth["vote_correct"]
        assert one.hash == run(cell.spec, sim=cell.name).hash


def test_a_vote_whose_model_fails_pauses_the_simulation_and_is_taken_up_again(tmp_path: Path) -> None:
    asking = {"kind": "llm", "model": "m", "sampling": {"temperature": 0.7, "max_tokens": 16}}
    agents = [{"id": name, "brain": asking} for name in "ab"]
    whole = debates().simulation.model_dump() | {"agents": agents, "models": {"m": MODEL}}
    job = debates(baseline="vote").model_copy(update={"simulation": SimulationSpec.model_validate(whole)})
    down = Server(
        lambda asked: GenResult.failed(Failure("refused", "down")) if "-vote" in asked.simulation else "ANSWER: 1"
    )
    up = Server(lambda asked: "ANSWER: 1")
    ((paused,), (ended,)) = (
        play_all(cells(job), tmp_path, 1, lambda _: None, lambda _, server=server: {"m": server})
        for server in (down, up)
    )
    assert paused.state == "paused"
    assert paused.reason == "the vote beside it: a model failed: down"
    assert ended.state == "ended"
    assert ended.efficiency["vote_tokens"] <= ended.efficiency["prompt_tokens"] + ended.efficiency["completion_tokens"]
    assert all("-vote" in request.simulation for request in up.asked)


def test_parts_of_a_debate_are_judged_by_playing_it_without_them(tmp_path: Path) -> None:
    found = cells(debates(seeds=SEEDS, without=("last_agent", "paths"), most_paths=4))
    played, _ = _play(found, tmp_path)
    for cell, one in zip(found, played, strict=True):
        less = run(cell.spec.model_copy(update={"agents": cell.spec.agents[:-1]}))
        assert one.efficiency["without_last_correct"] == float(less.outcome["correct"])
        # Independent agents hear and stay as they are.
        assert (one.efficiency["paths"], one.efficiency["unnecessary_path_ratio"]) == (6, 1)
        assert one.hash == run(cell.spec, sim=cell.name).hash


def test_a_lease_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    from steerline.simulation.store.sqlite import SqliteStore

    (cell,) = cells(games())
    folder = tmp_path / cell.name
    folder.mkdir()
    dead = SqliteStore(folder / "simulation.sqlite")
    run(cell.spec, store=dead, sim=cell.name, ticks=1)
    dead.acquire(cell.name, "a dead process", 1000.0)
    dead.close()
    ((ended,), _) = _play([cell], tmp_path)
    assert ended.state == "ended"
    assert ended.hash == run(cell.spec, sim=cell.name).hash


@pytest.mark.parametrize("together", [1, 8])
def test_how_many_are_played_at_once_changes_nothing(tmp_path: Path, together: int) -> None:
    found = cells(debates(seeds=SEEDS))
    played = play_all(found, tmp_path, together, lambda _: None)
    assert [one.hash for one in played] == [run(cell.spec, sim=cell.name).hash for cell in found]
