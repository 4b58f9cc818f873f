"""A multi-agent system read from its three files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steerline.errors import SimulationError
from steerline.simulation.masks import read_masks
from steerline.simulation.runner import run
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
META = {"name": "star_math", "task": "gsm8k", "default_llm": "small"}


def written(folder: Path, **changes: Any) -> Path:
    for name, content in (("topology", {**TOPOLOGY, **changes}), ("agents", AGENTS), ("meta", META)):
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
    ],
)
def test_masks_that_do_not_fit_are_refused(changes: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=what):
        read_masks(written(tmp_path, **changes))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "meta.json").unlink()
    with pytest.raises(SimulationError, match="cannot be read") as caught:
        read_masks(tmp_path)
    assert "meta.json" in str(caught.value)
