"""A multi-agent system read from its three files."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from steerline.errors import ConfigError, SimulationError
from steerline.inference.backends.open import open_backend
from steerline.inference.client import InferenceClient
from steerline.simulation.engine import Engine, Surroundings
from steerline.simulation.masks import read_masks
from steerline.simulation.result import Result
from steerline.simulation.runner import run
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.chat import chat

# Three workers and a decider, two rounds: workers talk to the decider in each, everybody carries its own words on.
STAR = [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
CARRY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
TOPOLOGY: dict[str, Any] = {
    "num_rounds": 2,
    "num_nodes": 4,
    "spatial_masks": [STAR, STAR],
    "temporal_masks": [CARRY, CARRY],
    "node_masks": [[1, 1, 1, 1], [1, 1, 1, 1]],
}
AGENTS = [
    *({"name": "solver", "agent_type": "math_solver", "role": "mathematician"} for _ in range(3)),
    {"name": "final decider", "agent_type": "final_refer", "llm": "large"},
]
ANSWERS = {"small": "ANSWER: 20", "large": "ANSWER: 14"}
META = {"name": "star_math", "task": "gsm8k", "default_llm": "small"}


def written(folder: Path, agents: Any = AGENTS, meta: Any = META, **changes: Any) -> Path:
    for name, content in (("topology", {**TOPOLOGY, **changes}), ("agents", agents), ("meta", meta)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_folder_gives_agents_and_links(tmp_path: Path) -> None:
    system = read_masks(written(tmp_path))
    assert list(system.profiles) == ["00-solver", "01-solver", "02-solver", "03-final-decider"]
    assert system.profiles["00-solver"].role == "mathematician"
    assert system.models["03-final-decider"] == "large"
    assert system.models["00-solver"] == "small"
    assert system.rounds == 2


def test_a_system_that_was_read_is_played(tmp_path: Path) -> None:
    system = read_masks(written(tmp_path))
    agents = [{"id": name, "brain": {"kind": "scripted", "policy": "echo"}} for name in system.profiles]
    result = run(chat(agents=agents, topology=system.topology, engine="sequential", max_ticks=9))
    order = [event.agent for event in result.of_kind("action.taken") if event.tick == 0]
    assert order[-1] == "03-final-decider"
    assert result.tick == 2
    # In the second round the decider hears the three workers, and itself of the first.
    last = next(e for e in result.of_kind("action.taken") if e.tick == 1 and e.agent == "03-final-decider")
    assert len(last.payload["text"].split(",")) == 6


def test_mutual_debate_over_three_rounds_and_self_edges_are_no_circle(tmp_path: Path) -> None:
    none, all_ = [[0] * 4] * 4, [[1] * 4] * 4
    changes = {"num_rounds": 3, "spatial_masks": [none] * 3, "temporal_masks": [all_] * 3, "node_masks": [[1] * 4] * 3}
    assert read_masks(written(tmp_path, **changes)).rounds == 3


def test_nodes_need_not_be_in_topological_order(tmp_path: Path) -> None:
    turned = [[0] * 4, [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    system = read_masks(written(tmp_path, spatial_masks=[turned, turned]))
    agents = [{"id": name, "brain": {"kind": "scripted", "policy": "greet"}} for name in system.profiles]
    result = run(chat(agents=agents, topology=system.topology, engine="sequential"))
    assert [event.agent for event in result.of_kind("action.taken")][3] == "00-solver"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"spatial_masks": [[[1, 0, 0, 0]] * 4] * 2}, "has a circle"),
        ({"num_nodes": 5}, "different agents"),
        ({"num_rounds": 3}, "not the length"),
        ({"node_masks": [[1, 1, 1]] * 2}, "do not fit"),
        ({"temporal_masks": [CARRY]}, "do not fit"),
        ({"spatial_masks": [[[0, 0, 0, 2]] * 4] * 2}, "do not fit"),
        ({"spatial_masks": [[[0, 0, 0, 0.5]] * 4] * 2}, "do not fit"),
        ({"spatial_masks": 3}, r"topology.json: spatial_masks\n  got:      3"),
        ({"meta": []}, "meta.json"),
        ({"agents": ["ann"] * 4}, "agents.json: 0"),
    ],
)
def test_masks_that_do_not_fit_are_refused(changes: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(SimulationError) as caught:
        read_masks(written(tmp_path, **changes))
    assert re.search(what, str(caught.value))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "meta.json").unlink()
    with pytest.raises(SimulationError, match="cannot be read") as caught:
        read_masks(tmp_path)
    assert "meta.json" in str(caught.value)


@pytest.mark.parametrize(("depth", "what"), [(100_000, "cannot be read"), (700, "spatial.0.0.0")])
def test_a_file_that_is_nested_too_deeply_is_named(depth: int, what: str, tmp_path: Path) -> None:
    whole = json.dumps({**TOPOLOGY, "num_rounds": 1, "spatial_masks": "HERE"})
    (written(tmp_path) / "topology.json").write_text(whole.replace('"HERE"', "[" * depth + "]" * depth))
    with pytest.raises(SimulationError, match=what) as caught:
        read_masks(tmp_path)
    assert "topology.json" in str(caught.value)


def test_models_names_and_entries_may_be_written_in_several_ways(tmp_path: Path) -> None:
    nameless = [{"llm": {"model": "large"}}, {"llm": "small"}, {"role": None, "llm": {"model": None}}]
    agents = {"agents": [{"name": "Zoë"}, *nameless]}
    system = read_masks(written(tmp_path, agents=agents, meta={}, node_masks=[[True, 1.0, 1, 1]] * 2))
    assert list(system.models.items()) == [
        ("00-Zo-", ""),
        ("01-agent", "large"),
        ("02-agent", "small"),
        ("03-agent", ""),
    ]


def test_a_system_debates_with_its_own_models_and_its_decider_has_the_last_word(tmp_path: Path) -> None:
    system = read_masks(written(tmp_path))
    models = {name: {"backend": {"kind": "noisy", "answers": (answer,)}} for name, answer in ANSWERS.items()}
    spec = system.simulation("debate", {"kind": "llm"}, models=models, params={"rounds": 1, "operands": [2, 3, 4]})
    with_backends = {alias: open_backend(model.backend) for alias, model in spec.models.items()}

    async def played() -> Result:
        async with InferenceClient(with_backends) as client:
            return await Engine(spec, MemoryStore(), around=Surroundings(client=client)).run()

    result = asyncio.run(played())
    assert result.tick == 2
    assert result.state["votes"][-1] == 20
    assert (result.outcome["answer"], result.outcome["correct"]) == (14, True)


def test_a_brain_without_a_kind_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_masks(written(tmp_path)).simulation("debate", {"policy": "follower"})
    assert "agents.0.brain" in str(caught.value)
