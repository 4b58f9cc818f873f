"""Serve configs that are shipped: Serve's own schema takes them, and so does the endpoint's spec."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from steerline.config.inference import ServedBackendSpec
from steerline.config.serving import ServingSpec
from steerline.serving.teams import Drawn, begin
from steerline.simulation.store.memory import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "deploy" / "serve").glob("*.yaml"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def loaded(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def spec_of(file: Path) -> ServingSpec:
    return ServingSpec.model_validate(loaded(file)["applications"][0]["args"])


def test_there_is_a_config() -> None:
    assert "simulation.yaml" in {file.name for file in FILES}


@each_file
def test_serves_own_schema_takes_it(file: Path) -> None:
    schema = ServeDeploySchema.model_validate(loaded(file))
    assert len(schema.applications) == 1


@each_file
def test_it_listens_on_loopback_and_asks_for_keys(file: Path) -> None:
    assert loaded(file)["http_options"]["host"] == "127.0.0.1"
    assert spec_of(file).access.required
    assert spec_of(file).access.cors_origins == ()


@each_file
def test_its_import_path_and_deployments_are_there(file: Path) -> None:
    application = loaded(file)["applications"][0]
    module, _, name = application["import_path"].partition(":")
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    deployed = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert name in functions
    assert {deployment["name"] for deployment in application["deployments"]} <= deployed


@each_file
def test_teams_ask_models_that_are_served(file: Path) -> None:
    spec = spec_of(file)
    for team in spec.teams.values():
        for ref in team.simulation.models.values():
            if isinstance(ref.backend, ServedBackendSpec):
                assert ref.backend.name in spec.models


@each_file
def test_teams_can_play_and_take_a_question(file: Path) -> None:
    spec = spec_of(file)
    assert spec.teams
    for name, team in spec.teams.items():
        assert begin(MemoryStore(), name, team, "Why do people share?", Drawn(seed=1)).startswith(f"team-{name}-")


def test_deployments_reserve_no_cpu_and_take_more_than_a_batch_at_once() -> None:
    from services import deployments

    spec = spec_of(ROOT / "deploy" / "serve" / "simulation.yaml")
    bound = deployments.build(spec)._bound_deployment
    models, simulations = bound.init_args[1:]
    for deployment in (bound, models._bound_deployment, simulations._bound_deployment):
        assert deployment.ray_actor_options["num_cpus"] == 0
    assert models._bound_deployment.max_ongoing_requests >= 4 * 32
    assert bound.max_ongoing_requests > spec.limits.in_flight + spec.limits.streams
