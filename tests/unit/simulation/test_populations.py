"""Agents by the number: dealt, derived from data, invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import MixedPopulation
from steerline.errors import SimulationError
from steerline.simulation.populations import shares
from steerline.simulation.result import Result
from steerline.simulation.runner import run
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.worlds import MODEL, Server, scripted

FREE, FULL = scripted("free_rider"), scripted("cooperator")


def peopled(population: dict[str, Any], **changes: Any) -> SimulationSpec:
    whole = {"scenario": "public_goods", "max_ticks": 2, "params": {"rounds": 2}, "population": population, **changes}
    return SimulationSpec.model_validate(whole)


def profiles(result: Result) -> list[dict[str, Any]]:
    return [event.payload["agent"].get("profile", {}) for event in result.of_kind("agent.spawned")]


def test_groups_have_their_shares_by_largest_remainder() -> None:
    groups = [{"brain": FREE, "weight": weight} for weight in (0.5, 0.3, 0.2)]
    for count, sizes in ((10, [5, 3, 2]), (7, [4, 2, 1]), (1, [1, 0, 0])):
        assert shares(MixedPopulation.model_validate({"kind": "mix", "count": count, "groups": groups})) == sizes


def test_a_mix_is_dealt_from_the_seed() -> None:
    mix = {"kind": "mix", "count": 8, "groups": [{"brain": FREE, "weight": 1}, {"brain": FULL, "weight": 3}]}
    one = run(peopled(mix))
    assert one.metrics[0]["mean_contribution"] == 15.0
    assert one.hash == run(peopled(mix)).hash
    runs = [run(peopled(mix, seed=seed)) for seed in range(5)]
    orders = {tuple(e.payload["agent"]["brain"]["policy"] for e in one.of_kind("agent.spawned")) for one in runs}
    assert len(orders) > 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_gives_one_agent_for_each_row(suffix: str, tmp_path: Path) -> None:
    rows = [{"job": "baker", "age": "41", "slope": "0.5"}, {"job": "nurse", "age": "29", "slope": "0.9"}]
    path = tmp_path / f"people{suffix}"
    lines = ["job,age,slope", *(",".join(row.values()) for row in rows)] if suffix == ".csv" else map(json.dumps, rows)
    path.write_text("\n".join(lines))
    columns = {"role": "job", "traits": ["age"], "attributes": ["slope"]}
    table = {"kind": "table", "path": str(path), "brain": FULL, **columns}
    result = run(peopled(table))
    assert profiles(result)[1] == {
        "role": "nurse",
        "traits": ["age: 29"],
        "attributes": {"slope": "0.9"},
        "provenance": "data_derived",
        "source_ref": f"people{suffix}, row 2",
    }


def test_a_run_does_not_depend_on_its_table_once_it_has_begun(tmp_path: Path) -> None:
    path, store = tmp_path / "people.jsonl", MemoryStore()
    path.write_text('{"job": "a"}\n{"job": "b"}\n')
    one = peopled({"kind": "table", "path": str(path), "role": "job", "brain": FULL})
    first = run(one, store=store, sim="s", ticks=1)
    path.unlink()
    assert run(one, store=store, sim="s").events[: len(first.events)] == first.events


@pytest.mark.parametrize(
    ("content", "table", "what"),
    [
        ("job\nbaker\n", {"role": "trade"}, "no column trade"),
        ("job\n", {}, "no rows"),
        ("job\nbaker\n", {"count": 2}, "too few rows"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(content: str, table: dict[str, Any], what: str, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(content)
    with pytest.raises(SimulationError, match=what):
        run(peopled({"kind": "table", "path": str(path), "brain": FULL, **table}))


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="cannot be read"):
        run(peopled({"kind": "table", "path": str(tmp_path / "none.csv"), "brain": FULL}))


def test_a_model_invents_agents_and_its_calls_are_journaled() -> None:
    baker = '{"role": "baker", "traits": ["kind"]}'
    server = Server(lambda request: baker if request.agent.endswith("1") else "no idea")
    one = peopled({"kind": "generated", "count": 2, "model": "m", "brain": FULL}, models={"m": MODEL})
    store = MemoryStore()
    result = run(one, store=store, sim="s", backends={"m": server})
    good, bad = profiles(result)
    assert good == {
        "role": "baker",
        "traits": ["kind"],
        "provenance": "model_generated",
        "source_ref": "model m",
    }
    assert bad["source_ref"].startswith("model m, unreadable")
    assert [(call.tick, call.agent) for call in store.calls("s")] == [(-1, "agent-0001"), (-1, "agent-0002")]


@pytest.mark.parametrize(
    "named",
    [
        {"workflow": [{"kind": "interview", "at": 1, "question": "?", "agents": ["eve"]}]},
        {"workflow": [{"kind": "inject", "at": 1, "message": "hi", "recipients": ["eve"]}]},
        {"interceptors": [{"kind": "drop", "match": {"senders": ["eve"]}}]},
    ],
    ids=str,
)
def test_a_stranger_is_refused_once_the_population_is_known(named: dict[str, Any]) -> None:
    mix = {"kind": "mix", "count": 2, "groups": [{"brain": FULL}]}
    with pytest.raises(SimulationError, match="eve is no agent"):
        run(peopled(mix, **named))


def test_names_that_clash_are_refused() -> None:
    mix = {"kind": "mix", "count": 2, "groups": [{"brain": FULL}]}
    with pytest.raises(SimulationError, match="two agents are named agent-0001"):
        run(peopled(mix, agents=[{"id": "agent-0001", "brain": FULL}]))


def test_a_tables_numbers_can_be_told_as_ranges(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("age\n41\n17\n")
    table = {"kind": "table", "path": str(path), "brain": FULL, "traits": ["age"], "bins": {"age": [18, 65]}}
    assert [profile["traits"] for profile in profiles(run(peopled(table)))] == [["age: 18 to 65"], ["age: below 18"]]
    path.write_text("age\n41\nold\n")
    with pytest.raises(SimulationError, match="no number") as caught:
        run(peopled(table))
    assert "people.csv, row 2" in str(caught.value)
