"""The main job under a real Ray cluster: workers that die, runs that are stopped, other numbers of workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from steerline.config.finetune import FinetuneSpec
from steerline.orchestration.stack import Stack
from steerline.training.checkpoint import CheckpointStore
from steerline.training.history import read_history
from steerline.training.job import Job, Outcome
from tests.law.runs import tiny_config

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
STEPS = 90
PATIENCE_S = 300.0
_WORKER = re.compile(r"pid=(\d+)\) world_rank=0")
LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@dataclass
class Attempt:
    """One `python -m jobs.finetune`."""

    job: Job
    process: subprocess.Popen[str]
    log: Path

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE_S)

    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text()

    def until(self, what: Callable[[], object]) -> None:
        """Wait for something to become true while it runs."""
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)

    def until_step(self, step: int) -> None:
        """Wait until a step is recorded."""
        self.until(lambda: max(read_history(self.job.folder).get("train/loss", {0: 0.0})) >= step)

    def worker_pid(self) -> int:
        """The first worker's process, once Ray has brought here what its controller says of it."""
        self.until(lambda: _WORKER.search(self.output()))
        return int(_WORKER.findall(self.output())[-1])


@dataclass
class Runs:
    """Starts attempts at runs, each in a folder of its own."""

    folder: Path
    environment: dict[str, str]

    def start(self, name: str, **changes: Any) -> Attempt:
        """Begin, or go on with, the run `name`."""
        storage = self.folder / name
        storage.mkdir(exist_ok=True)
        settings = {
            "training__num_steps": STEPS,
            "training__global_batch_size": 8,
            "training__micro_batch_size": 1,
            "training__save_every_steps": 20,
            "training__log_every_steps": 1,
            "zero__stage": 2,
            # Without dropout, whose draws are each worker's own.
            "model__source": {"kind": "random", "architecture": "llama", "overrides": LLAMA},
            "evaluation": {},
            "cluster": {"storage_path": str(storage), **changes.pop("cluster", {})},
        }
        config = tiny_config(**settings, **changes)
        file = storage / "config.yaml"
        file.write_text(json.dumps(config))
        log = storage / f"attempt-{len(list(storage.glob('*.log')))}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobs.finetune", str(file)],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return Attempt(Job.of(FinetuneSpec.model_validate(config)), process, log)


@pytest.fixture(scope="module")
def runs(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), {**os.environ, **stack.environment()})


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> dict[str, dict[int, float]]:
    attempt = runs.start("undisturbed")
    assert attempt.wait() == 0, attempt.output()
    return followed(attempt.job)


def followed(job: Job) -> dict[str, dict[int, float]]:
    history = read_history(job.folder)
    return {name: history[name] for name in ("train/loss", "train/grad_norm", "heldout/loss")}


def same(job: Job, expected: dict[str, dict[int, float]], relative: float) -> None:
    found = followed(job)
    for name, steps in expected.items():
        assert found[name] == pytest.approx(steps, rel=relative), name


def test_a_worker_killed_in_mid_training_changes_nothing(runs: Runs, undisturbed: dict[str, dict[int, float]]) -> None:
    attempt = runs.start("killed")
    worker = attempt.worker_pid()
    attempt.until_step(30)
    os.kill(worker, signal.SIGKILL)
    assert attempt.wait() == 0, attempt.output()
    assert "resuming from step-0000" in attempt.output()
    same(attempt.job, undisturbed, 1e-6)
    outcome = Outcome.load(attempt.job.folder)
    assert outcome is not None
    assert (outcome.state, outcome.step) == ("finished", STEPS)


def test_a_stopped_run_resumes_by_its_name_past_an_altered_checkpoint(
    runs: Runs, undisturbed: dict[str, dict[int, float]]
) -> None:
    first = runs.start("stopped")
    first.until_step(30)
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == 130, first.output()
    *_, last = CheckpointStore(first.job.checkpoints).steps()
    assert 30 <= last < STEPS
    shard = next(first.job.checkpoints.glob(f"step-{last:06d}/shards/*optim_states.pt"))
    shard.write_bytes(shard.read_bytes()[:-100])
    second = runs.start("stopped")
    assert second.wait() == 0, second.output()
    assert f"checkpoint step-{last:06d} is not used: shards/{shard.name} has" in second.output()
    same(second.job, undisturbed, 1e-6)
    third = runs.start("stopped")
    assert third.wait() == 0, third.output()
    assert "nothing to do" in third.output()


def test_two_workers_go_on_as_one(runs: Runs, undisturbed: dict[str, dict[int, float]]) -> None:
    first = runs.start("shrunk", cluster={"num_workers": 2})
    first.until_step(30)
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == 130, first.output()
    second = runs.start("shrunk", cluster={"num_workers": 1})
    assert second.wait() == 0, second.output()
    assert second.job.folder == first.job.folder
    same(second.job, undisturbed, 1e-5)


def test_a_loss_that_is_not_finite_fails_once_with_its_own_exit_code(runs: Runs) -> None:
    attempt = runs.start("nan", training__optimizer={"learning_rate": 1e30}, training__clip_norm=None)
    assert attempt.wait() == 8, attempt.output()
    assert "NonFiniteLossError" in attempt.output()
    assert attempt.output().count("Started training worker group") == 1
    outcome = Outcome.load(attempt.job.folder)
    assert outcome is not None
    assert (outcome.state, outcome.exit_code) == ("failed", 8)
