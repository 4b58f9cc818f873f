"""Simulations as trials of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steerline.config.inference import LocalBackendSpec
from steerline.config.simulation import SimulationSpec
from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Point, trials
from steerline.errors import SimulationError
from steerline.inference.backends.local import LocalBackend
from steerline.models.load import LoadedModel
from steerline.orchestration.preflight import preflight
from steerline.simulation.metric_names import metric_names
from steerline.sweeps.simulate import SimulateTrials
from tests.unit.experiments.jobs import debates, games
from tests.unit.simulation.worlds import MODEL
from tests.unit.sweeps.sweeps import BOOST

RETURN = "simulation.params.marginal_return"


def sweep(folder: Path, **changes: Any) -> SweepSpec:
    """A sweep over the return of a public goods game."""
    base = games().model_dump(mode="json") | {"cluster": {"storage_path": str(folder)}}
    config = {
        "name": "returns",
        "base": base,
        "space": {RETURN: {"kind": "grid", "values": [0.3, 0.6]}},
        "seeds": [4, 5],
        "metrics": [{"name": "mean_contribution", "goal": "max"}],
        **changes,
    }
    return SweepSpec.model_validate(config)


def test_a_trial_is_a_job_of_one_seed_and_its_metrics_are_the_simulations(tmp_path: Path) -> None:
    played = trials(sweep(tmp_path), Point({RETURN: 0.3}))
    assert [one.spec.seeds for one in played] == [(4,), (5,)]  # type: ignore[union-attr]
    found = SimulateTrials().evaluate(played)
    assert {one.state for one in found} == {"finished"}
    assert found[0].metrics["mean_contribution"] >= 0
    assert found[0].metrics["efficiency/turns"] == 9


def test_a_second_attempt_plays_nothing_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played = trials(sweep(tmp_path), Point({RETURN: 0.3}))
    first = SimulateTrials().evaluate(played)
    assert "ended after 3 ticks" in capsys.readouterr().out
    assert [one.metrics for one in SimulateTrials().evaluate(played)] == [one.metrics for one in first]
    assert capsys.readouterr().out == ""


def test_a_simulation_that_does_not_end_fails_its_trial_with_the_reason(tmp_path: Path) -> None:
    spec = sweep(tmp_path, space={"simulation.budgets.max_seconds": {"kind": "grid", "values": [1e-9]}})
    with pytest.raises(SimulationError, match="is paused"):
        SimulateTrials().evaluate(trials(spec, Point({"simulation.budgets.max_seconds": 1e-9})))


def test_a_metric_that_no_simulation_gives_is_found_before_anything_starts(tmp_path: Path) -> None:
    spec = sweep(tmp_path, metrics=[{"name": "mean_contributions", "goal": "max"}])
    report = preflight(spec, cluster=None, elsewhere=True, environment={})
    (problem,) = [finding.problem for finding in report.problems]
    assert problem.path == "metrics.0.name"
    assert "mean_contribution |" in str(problem.expected)


def test_names_of_metrics_are_told_without_a_model() -> None:
    known = metric_names(debates().simulation)
    assert {"accuracy", "vote_accuracy", "efficiency/message_density"} <= known
    assert metric_names(debates().simulation, without=("paths",)) - known == {
        "efficiency/paths",
        "efficiency/unnecessary_path_ratio",
    }


@pytest.mark.parametrize("kind", ["mix", "table", "generated"])
def test_names_of_metrics_of_a_population_are_told_without_a_model(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("job\nbaker\nnurse\nbaker\n")
    brain = {"kind": "llm", "model": "m"}
    population: dict[str, object] = {
        "mix": {"kind": "mix", "count": 3, "groups": [{"brain": brain}]},
        "table": {"kind": "table", "path": str(path), "brain": brain},
        "generated": {"kind": "generated", "count": 3, "model": "m", "brain": brain},
    }[kind]
    whole = games().simulation.model_dump() | {"agents": (), "population": population, "models": {"m": MODEL}}
    assert "mean_contribution" in metric_names(SimulationSpec.model_validate(whole))


def test_trials_with_a_model_share_it_and_differ_in_their_agents_steering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strength = "simulation.agents.1.brain.steering.boost.strength"
    config = {
        "name": "strengths",
        "base": {"kind": "simulate", "name": "talk", "simulation": talk(), "cluster": {"storage_path": str(tmp_path)}},
        "space": {strength: {"kind": "grid", "values": [0.0, 8.0]}},
        "metrics": [{"name": "accuracy", "goal": "max"}],
    }
    spec, load, loads = SweepSpec.model_validate(config), LocalBackend.load, []

    def counted(backend: LocalBackendSpec) -> LoadedModel:
        loads.append(backend)
        return load(backend)

    monkeypatch.setattr(LocalBackend, "load", counted)
    kind = SimulateTrials()
    for value in (0.0, 8.0):
        (found,) = kind.evaluate(trials(spec, Point({strength: value})))
        assert found.state == "finished"
        assert found.tokens > 0
    assert len(loads) == 1


def talk() -> dict[str, object]:
    """A debate between two that speak by one small model, one of them steered."""
    brain = {"kind": "llm", "model": "small", "sampling": {"max_tokens": 2}}
    source = {
        "kind": "random",
        "architecture": "llama",
        "overrides": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    }
    return {
        "scenario": "debate",
        "max_ticks": 3,
        "params": {"rounds": 1},
        "models": {"small": {"backend": {"kind": "local", "model": {"source": source}}}},
        "agents": [
            {"id": "plain", "brain": brain},
            {"id": "steered", "brain": {**brain, "steering": {"boost": BOOST}}},
        ],
    }
