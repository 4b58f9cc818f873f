"""What preflight says of a job of simulations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steerline.config.simulate import SimulateSpec
from steerline.errors import Problem
from steerline.orchestration.preflight.simulate import SIMULATE_CHECKS, SimulateScene
from tests.unit.simulation.worlds import llm, spec


def local(path: str) -> dict[str, Any]:
    return {"backend": {"kind": "local", "model": {"source": {"kind": "local", "path": path}}}}


def missing(first: str, grid: dict[str, Any]) -> list[Problem]:
    """What is said of the models of a game with a model `m` at a path, and whatever a grid makes of it."""
    simulation = spec(llm(), llm(), models={"m": local(first)}).model_dump(mode="json")
    job = SimulateSpec.model_validate({"name": "games", "simulation": simulation, "grid": grid})
    (check,) = (known for known in SIMULATE_CHECKS if known.id == "model")
    return [finding.problem for finding in check.findings(SimulateScene(job), elsewhere=False)]


def test_a_model_that_is_missing_is_found_where_it_stands(tmp_path: Path) -> None:
    (problem,) = missing(str(tmp_path / "away"), {})
    assert problem.path == "simulation.models.m.backend.model.source.path"
    assert problem.got == str(tmp_path / "away")


@pytest.mark.parametrize("path", ["models.m.backend.model.source.path", "models.m"])
def test_models_that_a_grid_puts_in_are_looked_for_too_each_once(path: str, tmp_path: Path) -> None:
    first, second, third = (str(tmp_path / name) for name in ("a", "b", "c"))
    models = [model if path.endswith("path") else local(model) for model in (first, second, third)]
    found = missing(first, {path: models, "params.rounds": [1, 2]})
    assert [problem.got for problem in found] == [first, second, third]
    assert [problem.path for problem in found[1:]] == ["grid", "grid"]
    assert "m.backend.model.source.path" in found[1].what


def test_a_grid_that_cannot_be_played_is_another_checks_to_say(tmp_path: Path) -> None:
    (problem,) = missing(str(tmp_path / "a"), {"max_ticks": [0]})
    assert problem.got == str(tmp_path / "a")
