"""The packaged evaluation config, shortened, through the real job: SmolLM2, Ray, MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steerline.config.evaluate import EvaluateSpec
from steerline.config.load import load
from steerline.config.render import run_name
from steerline.evaluation.results import EvaluationResult
from steerline.orchestration.stack import Stack
from steerline.tracking.connection import connect
from steerline.tracking.queries import find_run
from steerline.training.job import Outcome

pytestmark = [pytest.mark.integration, pytest.mark.packaged]

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "jobs" / "configs" / "evaluate_smollm2.yaml"
ITEMS = 2
SHORTER = [
    *(f"evaluation.tasks.{task}.dataset.limit={ITEMS}" for task in range(4)),
    "evaluation.num_bootstrap=100",
    "cluster.cpus_per_worker=1",
]
PATIENCE_S = 500.0


def run(stack: Stack, settings: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.evaluate", str(CONFIG), *(f"--set={setting}" for setting in settings)],
        cwd=ROOT,
        env={**os.environ, **stack.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def test_strengths_are_judged_against_the_plain_model_recorded_and_not_repeated(stack: Stack, tmp_path: Path) -> None:
    settings = [*SHORTER, "strengths=[0.0, 4.0]", f"cluster.storage_path={tmp_path}"]
    done = run(stack, settings)
    assert done.returncode == 0, done.stdout
    name = run_name(load(CONFIG, settings).of(EvaluateSpec).spec)
    outcome = Outcome.load(tmp_path / name)
    assert outcome is not None
    assert outcome.state == "finished"

    plain = EvaluationResult.load(Path(outcome.files["evaluation_plain"]))
    unsteered = EvaluationResult.load(Path(outcome.files["evaluation_strength_0"]))
    steered = EvaluationResult.load(Path(outcome.files["evaluation_strength_4"]))
    assert unsteered == plain
    assert steered != plain
    assert [len(task.items) for task in plain.tasks] == [ITEMS] * 4

    found = find_run(stack.tracking_uri, name)
    client = connect(stack.tracking_uri)
    metrics = client.get_run(found.ref.run_id).data.metrics
    assert metrics["eval/strength_4/boolq/accuracy"] == outcome.metrics["eval/strength_4/boolq/accuracy"]
    assert metrics["eval_plain/id/num_items"] == 3 * ITEMS
    artefacts = {file.path for file in client.list_artifacts(found.ref.run_id)}
    assert {"evaluation_plain.json", "evaluation_strength_4.json", "comparisons", "figures"} <= artefacts
    comparisons = {file.path for file in client.list_artifacts(found.ref.run_id, "comparisons")}
    assert "comparisons/strength_4.md" in comparisons

    again = run(stack, settings)
    assert again.returncode == 0, again.stdout
    assert "finished already" in again.stdout
