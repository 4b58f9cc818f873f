from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

import pytest

from steerline.inference.backends import open as opening
from steerline.simulation.bundle import read_bundle
from steerline.simulation.names import SCENARIOS
from steerline.simulation.replay import replay_strictly
from steerline.simulation.runner import run
from steerline.simulation.sample import sample
from steerline.simulation.scenarios.public_goods import PublicGoods
from tests.unit.simulation.test_masks import written
from tests.unit.simulation.worlds import Server

GAME = ("simulate", "public_goods", "--agents", "2", "--policy", "conditional", "--policy", "punisher", "--ticks", "3")


def test_the_list_names_every_scenario(steerline) -> None:
    ran = steerline("simulate", "--list")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == list(SCENARIOS)


def test_a_scenarios_policies_and_settings_are_listed_with_their_help(steerline) -> None:
    ran = steerline("simulate", "public_goods", "--list")
    assert all(policy in ran.out for policy in PublicGoods.scripted)
    assert all(f"params.{name}" in ran.out for name in PublicGoods.Params.model_fields)
    assert "Points that each player has in each round. [20]" in ran.out


def test_a_run_is_shown_tick_by_tick_and_is_that_of_the_library(steerline) -> None:
    ran = steerline(*GAME)
    assert ran.code == 0
    assert next(line for line in ran.out.splitlines() if "agent-1:" in line) == "   0  agent-1: 10"
    assert ran.out.count("mean_contribution=") == 3
    assert "ended after 3 ticks: max_ticks is reached" in ran.out
    same = run(sample("public_goods", agents=2, policies=["conditional", "punisher"], ticks=3))
    assert same.hash[:16] in ran.out


def test_a_scenario_of_ones_own_lies_in_the_folder_that_one_is_in(steerline, tmp_path) -> None:
    source = "from steerline.simulation.scenarios.public_goods import PublicGoods\nclass Commons(PublicGoods): ...\n"
    (tmp_path / "my_commons.py").write_text(source)
    ran = steerline("simulate", "my_commons:Commons", *GAME[2:])
    assert ran.code == 0, ran.err
    assert "ended after 3 ticks" in ran.out


def test_settings_reach_the_simulation(steerline) -> None:
    ran = steerline(*GAME, "--set", "params.rounds=1", "--set", "seed=3")
    assert "ended after 1 ticks" in ran.out
    assert "the scenario has ended" in ran.out


def test_a_folder_of_three_files_says_who_takes_part_and_who_hears_whom(steerline, tmp_path: Path) -> None:
    ran = steerline("simulate", "debate", "--masks", written(tmp_path), "--policy", "independent")
    assert ran.code == 0, ran.err
    assert "ended after 2 ticks" in ran.out
    assert ran.out.count("03-final-decider: ") == 2


def test_what_came_of_a_run_fits_a_screen(steerline) -> None:
    ran = steerline("simulate", "recommender", "--ticks", "2")
    assert len(ran.out) < 6000
    assert "characters)" in " ".join(ran.out.split())


def test_a_kept_run_is_a_bundle_and_is_not_played_twice(steerline, tmp_path: Path) -> None:
    first = steerline(*GAME, "--keep", tmp_path / "kept")
    (folder,) = (tmp_path / "kept").iterdir()
    bundle = read_bundle(folder)
    assert asyncio.run(replay_strictly(bundle.spec, bundle.events, bundle.calls)).hash[:16] in first.out
    assert len((folder / "transcript.jsonl").read_text().splitlines()) == 6
    again = steerline(*GAME, "--keep", tmp_path / "kept")
    assert "agent-1:" not in again.out
    assert first.out.endswith(again.out)
    assert read_bundle(folder).events == bundle.events


def test_a_model_answers_for_the_agents(steerline, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(lambda request: "It is fair.\nANSWER: 9")
    seen: list[str] = []

    def opened(spec: object) -> Server:
        seen.append(spec.model.source.name)
        return server

    monkeypatch.setattr(opening, "open_backend", opened)
    ran = steerline("simulate", "public_goods", "--agents", "2", "--ticks", "1", "--model", "smollm2-135m-instruct")
    assert seen == ["smollm2-135m-instruct"]
    assert "   0  agent-2: 9 | It is fair." in ran.out.splitlines()
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["simulate"], 2, "simulate --list"),
        (["simulate", "nowhere"], 16, "public_goods"),
        (["simulate", "public_goods", "--policy", "saint"], 16, "punisher"),
        (["simulate", "public_goods", "--set", "params.roundz=1"], 16, "rounds"),
        (["simulate", "public_goods", "--set", "max_tick=1"], 2, "max_ticks"),
        (["simulate", "public_goods", "--set", "nonsense"], 2, "a.b=c"),
        (["simulate", "werewolf", "--agents", "1"], 16, "players"),
    ],
)
def test_what_cannot_be_played_is_one_message(steerline, arguments: list[str], code: int, said: str) -> None:
    ran = steerline(*arguments)
    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err


def play_along(steerline, monkeypatch: pytest.MonkeyPatch, typed: str):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    return steerline(
        *("simulate", "public_goods", "--me", "--agents", "1", "--policy", "cooperator"), "--set", "params.rounds=2"
    )


def test_a_person_plays_along_and_sees_no_more_than_an_agent_does(steerline, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = play_along(steerline, monkeypatch, "7\n8\n")
    assert ran.code == 0
    assert ran.out.count("How many points") == 2
    assert "you: 7" in ran.out
    assert "agent-1: 20" not in ran.out
    assert "mean_contribution=" not in ran.out


def test_a_person_who_leaves_leaves_the_run_waiting(steerline, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = play_along(steerline, monkeypatch, "7\n")
    assert ran.code == 130
    assert "waiting after 1 ticks: you: nobody has answered yet" in ran.out
