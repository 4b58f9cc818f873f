"""Whole sweeps in processes of their own: killed and restored, stopped early, recorded and promoted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from steerline.config.sweep import SweepSpec
from steerline.errors import SweepError
from steerline.orchestration.promotion import promote
from steerline.orchestration.stack import Stack
from steerline.sweeps.ledger import Ledger
from steerline.sweeps.sweep import sweep_folder
from steerline.tracking.children import TAG_STOPPED_EARLY
from steerline.tracking.connection import connect
from steerline.tracking.lineage import lineage, render
from steerline.tracking.queries import find_run, search_runs
from tests.integration.cluster import wait_until_cpus_are_free
from tests.law.runs import tiny_config
from tests.unit.sweeps.sweeps import SCALE, sweep_config

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0
RATE = "training.optimizer.learning_rate"
LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def start(stack: Stack, folder: Path, *command: str) -> subprocess.Popen[str]:
    with (folder / f"log-{time.time_ns()}.txt").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, **stack.environment()},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def said(folder: Path) -> str:
    return "\n".join(log.read_text() for log in sorted(folder.glob("log-*.txt")))


def until(what: Callable[[], object], process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, said(folder)
        assert time.monotonic() < deadline, said(folder)
        time.sleep(0.05)


def written(folder: Path, config: dict[str, Any]) -> tuple[Path, SweepSpec]:
    config["base"]["cluster"] = {"storage_path": str(folder / "runs")}
    file = folder / "sweep.yaml"
    file.write_text(json.dumps(config))
    return file, SweepSpec.model_validate(config)


def children(stack: Stack, spec: SweepSpec) -> list[Any]:
    parent = find_run(stack.tracking_uri, sweep_folder(spec).name)
    return search_runs(connect(stack.tracking_uri), f"tags.`mlflow.parentRunId` = '{parent.ref.run_id}'")


def test_a_killed_sweep_goes_on_without_repeating_and_mlflow_shows_each_trial_once(
    stack: Stack, tmp_path: Path
) -> None:
    space = {SCALE: {"kind": "grid", "values": [0.5 * n for n in range(12)]}}
    file, spec = written(tmp_path, sweep_config(space=space, name="killed"))
    seen, ledger = tmp_path / "seen", sweep_folder(spec)
    first = start(stack, tmp_path, "tests.integration.sweep_process", str(file), str(seen))
    until(lambda: ledger.exists() and len(Ledger(ledger).records) >= 4, first, tmp_path)
    before = set(Ledger(ledger).records)
    first.send_signal(signal.SIGKILL)
    first.wait(PATIENCE_S)
    second = start(stack, tmp_path, "tests.integration.sweep_process", str(file), str(seen))
    assert second.wait(PATIENCE_S) == 0, said(tmp_path)
    times = Counter(line.split()[0] for line in seen.read_text().splitlines())
    assert len(times) == 12
    assert all(times[name] == 1 for name in before)
    runs = children(stack, spec)
    names = [run.data.tags["steerline.run_name"] for run in runs]
    assert sorted(names) == sorted(times)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert "scale=2 seed=0" in {run.info.run_name for run in runs}
    assert find_run(stack.tracking_uri, ledger.name).status == "FINISHED"


def test_a_sweep_of_whole_runs_stops_early_frees_its_cpus_and_its_best_model_is_promoted(
    stack: Stack, tmp_path: Path
) -> None:
    base = tiny_config(
        name="swept",
        model__source={"kind": "random", "architecture": "llama", "overrides": LLAMA},
        training__num_steps=60,
        training__heldout_every_steps=5,
        training__save_every_steps=60,
        evaluation={},
    )
    file, spec = written(
        tmp_path,
        {
            "kind": "sweep",
            "name": "whole",
            "base": base,
            "space": {RATE: {"kind": "grid", "values": [1e-2, 1e-7]}},
            "metrics": [{"name": "heldout/loss_ce", "goal": "min"}],
            "scheduler": {"kind": "asha", "grace_steps": 10, "reduction_factor": 2},
            "budget": {"max_concurrent": 1},
        },
    )
    process = start(stack, tmp_path, "jobs.sweep", str(file))
    assert process.wait(PATIENCE_S) == 0, said(tmp_path)
    states = {record.label: record.found.state for record in Ledger(sweep_folder(spec)).records.values()}
    assert states == {"learning_rate=0.01 seed=0": "finished", "learning_rate=1e-07 seed=0": "stopped_early"}
    runs = {run.info.run_name: run for run in children(stack, spec)}
    assert len(runs) == 2
    stopped = runs["learning_rate=1e-07 seed=0"]
    assert stopped.info.status == "KILLED"
    assert stopped.data.tags[TAG_STOPPED_EARLY] == "true"
    assert runs["learning_rate=0.01 seed=0"].info.status == "FINISHED"
    _is_promoted(stack, sweep_folder(spec))
    wait_until_cpus_are_free()


def _is_promoted(stack: Stack, folder: Path) -> None:
    with pytest.raises(SweepError, match="does not beat the baseline"):
        promote(str(folder), stack.tracking_uri)
    registered, verdict = promote(str(folder), stack.tracking_uri, alias="champion", force=True)
    assert "without a baseline" in verdict
    assert registered.alias == "champion"
    console = Console(width=200)
    with console.capture() as shown:
        console.print(render(lineage(stack.tracking_uri, registered.uri, "up")))
    assert folder.name in shown.get()
