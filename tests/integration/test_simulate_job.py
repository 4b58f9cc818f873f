"""Jobs of simulations through the real entry point: Ray workers, MLflow, a worker that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from steerline.config.load import load
from steerline.config.render import run_name
from steerline.config.simulate import SimulateSpec
from steerline.experiments.played import Played
from steerline.orchestration.stack import Stack
from steerline.simulation.cells import cells
from steerline.simulation.runner import run as play
from steerline.simulation.store.sqlite import SqliteStore
from steerline.tracking.connection import connect
from steerline.tracking.queries import find_run
from steerline.training.job import Outcome
from tests.integration.cluster import wait_until_cpus_are_free
from tests.unit.experiments.jobs import debates

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "jobs" / "configs" / "simulate_public_goods.yaml"
PATIENCE_S = 240.0


def run(stack: Stack, settings: list[str], config: Path = CONFIG) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.simulate", str(config), *(f"--set={setting}" for setting in settings)],
        cwd=ROOT,
        env={**os.environ, **stack.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def test_a_grid_over_two_workers_is_that_of_one_process_and_is_not_played_twice(stack: Stack, tmp_path: Path) -> None:
    settings = ["seeds=[0,1]", "cluster.num_workers=2", f"cluster.storage_path={tmp_path}"]
    spec = load(CONFIG, settings).of(SimulateSpec).spec
    done = run(stack, settings)
    assert done.returncode == 0, done.stdout
    name = run_name(spec)
    outcome = Outcome.load(tmp_path / name)
    assert outcome is not None
    assert outcome.state == "finished"
    for cell in cells(spec):
        played = Played.load(tmp_path / name / cell.name)
        assert played is not None
        assert played.hash == play(cell.spec, sim=cell.name).hash

    found = find_run(stack.tracking_uri, name)
    client = connect(stack.tracking_uri)
    experiment = found.ref.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{found.ref.run_id}'")
    assert {child.data.params["params.punishment"] for child in children} == {"true", "false"}
    assert len(children) == 4
    assert {child.info.status for child in children} == {"FINISHED"}
    artefacts = {file.path for file in client.list_artifacts(found.ref.run_id)}
    assert {"simulations.json", "simulations.md", "figures", "simulations"} <= artefacts

    again = run(stack, settings)
    assert again.returncode == 0, again.stdout
    assert "finished already" in again.stdout


def test_an_episode_is_one_trace_with_a_span_for_each_turn(stack: Stack, tmp_path: Path) -> None:
    settings = [
        "grid={params.punishment: [true]}",
        "seeds=[3]",
        "simulation.max_ticks=2",
        "name=one",
        f"cluster.storage_path={tmp_path}",
    ]
    done = run(stack, settings)
    assert done.returncode == 0, done.stdout
    name = run_name(load(CONFIG, settings).of(SimulateSpec).spec)
    found = find_run(stack.tracking_uri, name)
    client = connect(stack.tracking_uri)
    traces = client.search_traces(locations=[found.ref.experiment_id], run_id=found.ref.run_id)
    assert len(traces) == 1
    spans = traces[0].data.spans
    assert spans[0].name == "public_goods"
    assert sum(span.span_type == "AGENT" for span in spans) == 16
    history = client.get_metric_history(found.ref.run_id, "mean_contribution")
    assert [point.step for point in history] == [0, 1]


def test_a_job_judges_its_debates_by_votes_and_by_playing_them_without_their_parts(
    stack: Stack, tmp_path: Path
) -> None:
    file = tmp_path / "debates.yaml"
    job = debates(baseline="vote", without=("last_agent", "paths"), seeds=(0, 1)).model_dump(mode="json")
    job["cluster"]["storage_path"] = str(tmp_path)
    file.write_text(yaml.safe_dump(job))
    done = run(stack, [], file)
    assert done.returncode == 0, done.stdout
    spec = load(file).of(SimulateSpec).spec
    found = find_run(stack.tracking_uri, run_name(spec))
    client = connect(stack.tracking_uri)
    experiment = found.ref.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{found.ref.run_id}'")
    gains = [child.data.metrics["efficiency/equal_budget_gain"] for child in children]
    folders = [tmp_path / run_name(spec) / cell.name for cell in cells(spec)]
    kept = [played.efficiency for folder in folders if (played := Played.load(folder)) is not None]
    assert sorted(gains) == sorted(worth["correct"] - worth["vote_correct"] for worth in kept)
    assert all({"last_agent_gain", "unnecessary_path_ratio"} <= worth.keys() for worth in kept)
    whole = client.get_run(found.ref.run_id).data.metrics
    assert whole["efficiency/equal_budget_gain"] == pytest.approx(sum(gains) / 2)


def test_sigterm_ends_a_job_at_once_with_its_run_closed_and_its_cpus_free(stack: Stack, tmp_path: Path) -> None:
    long = [
        "grid={params.punishment: [true]}",
        "seeds=[0]",
        "simulation.params.rounds=1000000",
        "simulation.max_ticks=1000000",
        "name=long",
    ]
    settings = [*long, f"cluster.storage_path={tmp_path}"]
    spec = load(CONFIG, settings).of(SimulateSpec).spec
    (cell,) = cells(spec)
    store = tmp_path / run_name(spec) / cell.name / "simulation.sqlite"
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.simulate", str(CONFIG), *(f"--set={setting}" for setting in settings)],
            cwd=ROOT,
            env={**os.environ, **stack.environment()},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(lambda: _ticks(store, cell.name) > 0, process)
        process.terminate()
        began = time.monotonic()
        assert process.wait(PATIENCE_S) == 130
        assert time.monotonic() - began < 90, (tmp_path / "said").read_text()
    finally:
        process.kill()
        process.wait()
    found = find_run(stack.tracking_uri, run_name(spec))
    assert connect(stack.tracking_uri).get_run(found.ref.run_id).info.status == "KILLED"
    wait_until_cpus_are_free()


def _ticks(path: Path, sim: str) -> int:
    if not path.is_file():
        return 0
    with closing(SqliteStore(path)) as store:
        return sum(event.kind == "tick.committed" for event in store.events(sim)) if store.find(sim) else 0


def _wait(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_simulation_that_cannot_be_played_is_refused_before_anything_starts(stack: Stack, tmp_path: Path) -> None:
    done = run(stack, ["simulation.scenario=public_good", f"cluster.storage_path={tmp_path}"])
    assert done.returncode == 3
    assert "there is no scenario called public_good" in done.stdout
    assert not list(tmp_path.iterdir())
