"""A residual-scale job on a real cluster, from a run's export to profiles on the disk and in MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from steerline.analysis.inforidge.residual_profiles import ResidualProfiles
from steerline.config.model import ModelSpec
from steerline.models.load import load_model
from steerline.orchestration.stack import Stack
from steerline.training.job import Outcome
from tests.tiny import MAX_POSITIONS

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
ASK = {"kind": "prompt_answer", "prompt": "{prompt}", "answer": "{answer}"}


def rows(split: str, seed: int) -> dict[str, object]:
    args = {"split": split, "elements": 3}
    source = {"kind": "synthetic", "generator": "signal_noise", "size": 16, "seed": seed, "args": args}
    return {"source": source, "format": ASK}


def config(folder: Path, run: str) -> Path:
    source = {"kind": "run", "run": run, "storage_path": str(folder), "trained_by": "jobs/configs/x.yaml"}
    spec = {
        "kind": "residual_scale",
        "name": "tiny-scales",
        "model": {"source": source},
        "splits": [{"name": name, "train": [rows(name, 0)], "heldout": [rows(name, 1)]} for name in ("id", "ood")],
        "fit": {"seeds": [0, 1], "num_steps": 4, "rows_per_step": 4, "split": True},
        "tracking": {"experiment": "residual"},
        "cluster": {"storage_path": str(folder)},
    }
    file = folder / "scales.yaml"
    file.write_text(json.dumps(spec))
    return file


def run_job(file: Path, stack: Stack) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.finetune", str(file)],
        cwd=ROOT,
        env={**os.environ, **stack.environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture
def exported(tmp_path: Path) -> str:
    """The name of a run that has exported a small random model."""
    overrides = {**SMALL, "max_position_embeddings": MAX_POSITIONS}
    spec = {"source": {"kind": "random", "architecture": "llama", "overrides": overrides}}
    loaded = load_model(ModelSpec.model_validate(spec))
    folder = tmp_path / "small-0123456789" / "export"
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return "small-0123456789"


def test_a_job_leaves_profiles_and_effects_and_is_not_repeated(stack: Stack, tmp_path: Path, exported: str) -> None:
    file = config(tmp_path, exported)
    done = run_job(file, stack)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = next(tmp_path.glob("tiny-scales-*"))
    profiles = ResidualProfiles.load(folder / "profiles.json")
    assert profiles.betas.shape == (2, 2, 2, 2)
    assert profiles.parts == ("attention", "ffn")
    outcome = Outcome.load(folder)
    assert outcome is not None
    assert outcome.state == "finished"
    client = MlflowClient(stack.environment()["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("residual")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["fitted_on_ood/id/loss"] == pytest.approx(outcome.metrics["fitted_on_ood/id/loss"])
    profile = client.get_metric_history(run.info.run_id, "beta/ood/ffn/mean")
    assert {point.step: point.value for point in profile} == pytest.approx(
        dict(enumerate(profiles.mean("ood")[1].tolist()))
    )
    files = {file.path for file in client.list_artifacts(run.info.run_id)} | {
        file.path for file in client.list_artifacts(run.info.run_id, "figures")
    }
    assert {"effects.md", "effects.json", "figures/residual_scales.png"} <= files
    again = run_job(file, stack)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


def test_a_run_that_was_not_trained_yet_ends_in_the_command_that_trains_it(stack: Stack, tmp_path: Path) -> None:
    done = run_job(config(tmp_path, "absent"), stack)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "train it: `python -m jobs.finetune jobs/configs/x.yaml`" in done.stderr
