"""The real stack, and one real fine-tuning job on it that the end-to-end tests look at from all sides."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from steerline.config.load import load
from steerline.orchestration.stack import Stack
from steerline.training.job import Job
from tests.integration.conftest import stack

__all__ = ["stack"]

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "jobs/configs/infosteer_smollm2.yaml"
# The shipped config, shortened: real weights, real data, the same path.
OVERRIDES = (
    "training.num_steps=4",
    "training.save_every_steps=2",
    "training.heldout_every_steps=4",
    "data.max_length_tokens=128",
    "evaluation.include_base=false",
    *(f"data.train.{index}.limit=40" for index in range(4)),
    *(f"data.heldout.{index}.limit=4" for index in range(2)),
    *(f"evaluation.tasks.{index}.dataset.limit=8" for index in range(4)),
    "tracking.experiment=e2e",
    "tracking.register_as={name: e2e-smollm2, alias: candidate}",
)


@dataclass(frozen=True)
class Submitted:
    """A job that went through the real `ray job submit`."""

    job: Job
    exit_code: int
    output: str


def ray_job_submit(stack: Stack, config: str, overrides: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The line that the README shows, typed with the stack's environment."""
    settings = [word for override in overrides for word in ("--set", override)]
    command = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", stack.address, "--working-dir"]
    return subprocess.run(
        [*command, ".", "--", "python", "-m", "jobs.finetune", config, *settings],
        cwd=ROOT,
        env={**os.environ, **stack.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=540,
    )


@pytest.fixture(scope="session")
def submitted(stack: Stack) -> Submitted:
    """InfoSteer on SmolLM2, submitted, followed to its end."""
    result = ray_job_submit(stack, CONFIG, OVERRIDES)
    job = Job.of(load(ROOT / CONFIG, OVERRIDES).spec)
    assert result.returncode == 0, result.stdout[-6000:]
    return Submitted(job, result.returncode, result.stdout)
