"""A person's whole path: `ray job submit` with token authentication, a real model, real data, a real MLflow server."""

from __future__ import annotations

import json
import math
from pathlib import Path

import httpx
import pytest
import torch
from typer.testing import CliRunner

from steerline.cli.app import app
from steerline.config.model import LocalModel, ModelSpec
from steerline.evaluation.results import EvaluationResult
from steerline.models.load import load_model
from steerline.orchestration.stack import Stack
from steerline.progress import parse_progress
from steerline.tracking.connection import connect
from steerline.tracking.queries import find_run, metric_history
from tests.e2e.conftest import CONFIG, OVERRIDES, Submitted, ray_job_submit

pytestmark = [pytest.mark.e2e, pytest.mark.packaged]


def test_the_cluster_refuses_requests_without_the_token(stack: Stack) -> None:
    assert httpx.get(f"{stack.address}/api/jobs/", timeout=30).status_code == 401


def test_the_job_shows_every_step_while_it_runs(submitted: Submitted) -> None:
    seen = [progress for line in submitted.output.splitlines() if (progress := parse_progress(line)) is not None]
    assert [progress.step for progress in seen] == [1, 2, 3, 4]
    assert all(math.isfinite(progress.values["loss"]) for progress in seen)


def test_mlflow_holds_the_whole_run(stack: Stack, submitted: Submitted) -> None:
    run = find_run(stack.tracking_uri, submitted.job.name)
    assert run.status == "FINISHED"
    assert any(value.startswith("raysubmit_") for value in run.tags.values()), "the Ray job's id is not recorded"
    # The copy that travelled has no commit of its own; it is known by its hash.
    assert run.tags["steerline.working_dir"].startswith("gcs://_ray_pkg_")
    assert run.tags["steerline.git"].startswith("unknown")
    assert "mlflow.source.git.commit" not in run.tags
    for key in ("train/loss", "train/loss_ce", "train/grad_norm", "train/tokens_per_s", "train/key_entropy/layer_00"):
        points = metric_history(stack.tracking_uri, run.ref.run_id, key)
        assert [point.step for point in points] == [1, 2, 3, 4], key
    heldout = metric_history(stack.tracking_uri, run.ref.run_id, "heldout/loss")
    assert [point.step for point in heldout] == [0, 4]
    # The effective number of memories is the exponential of the entropy, and cannot exceed SmolLM2's 1536 keys.
    entropy = metric_history(stack.tracking_uri, run.ref.run_id, "heldout/key_entropy/layer_29")
    memories = metric_history(stack.tracking_uri, run.ref.run_id, "heldout/effective_memories/layer_29")
    assert memories[-1].value == pytest.approx(math.exp(entropy[-1].value), rel=1e-5)
    assert 1 < memories[-1].value < 1536
    assert 0 <= run.metrics["eval/piqa/accuracy"] <= 1
    assert any(key.startswith("system/") for key in run.metrics)


def test_mlflow_knows_the_config_the_data_and_the_figures(stack: Stack, submitted: Submitted) -> None:
    run = find_run(stack.tracking_uri, submitted.job.name)
    client = connect(stack.tracking_uri)
    files = {item.path for item in client.list_artifacts(run.ref.run_id)}
    assert {"config.resolved.json", "figures"} <= files
    figures = {item.path for item in client.list_artifacts(run.ref.run_id, "figures")}
    assert {"figures/losses.png", "figures/key_entropy_heldout.png", "figures/key_shift.png"} <= figures
    inputs = client.get_run(run.ref.run_id).inputs.dataset_inputs
    assert inputs
    assert all(item.dataset.digest for item in inputs)


def test_the_export_is_an_ordinary_folder_that_loads_and_speaks(submitted: Submitted) -> None:
    folder = submitted.job.export
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= {
        path.name for path in folder.iterdir()
    }
    loaded = load_model(ModelSpec(source=LocalModel(kind="local", path=str(folder))), dtype=torch.float32)
    tokens = loaded.tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        text = loaded.tokenizer.decode(loaded.model.generate(**tokens, max_new_tokens=3, do_sample=False)[0])
    assert "Paris" in text


def test_the_evaluation_is_kept_item_by_item(submitted: Submitted) -> None:
    result = EvaluationResult.load(submitted.job.folder / "evaluation.json")
    assert result.num_items == 32
    assert json.loads((submitted.job.folder / "outcome.json").read_text())["state"] == "finished"


def test_lineage_leads_from_the_alias_back_to_the_data(stack: Stack, submitted: Submitted) -> None:
    shown = CliRunner().invoke(app, ["lineage", "models:/e2e-smollm2@candidate"])
    assert shown.exit_code == 0, shown.output
    assert submitted.job.name in shown.output
    run = find_run(stack.tracking_uri, submitted.job.name)
    inputs = connect(stack.tracking_uri).get_run(run.ref.run_id).inputs.dataset_inputs
    assert any(item.dataset.digest[:8] in shown.output for item in inputs)


def test_compare_pairs_the_run_with_itself(submitted: Submitted) -> None:
    file = str(submitted.job.folder / "evaluation.json")
    shown = CliRunner().invoke(app, ["compare", file, file])
    assert shown.exit_code == 0, shown.output
    assert "piqa" in shown.output


def test_submitting_a_finished_run_again_says_so_and_doubles_nothing(stack: Stack, submitted: Submitted) -> None:
    again = ray_job_submit(stack, CONFIG, OVERRIDES)
    assert again.returncode == 0, again.stdout[-3000:]
    assert "finished already" in again.stdout
    run = find_run(stack.tracking_uri, submitted.job.name)
    assert len(metric_history(stack.tracking_uri, run.ref.run_id, "train/loss")) == 4


def test_a_wrong_config_fails_the_job_with_the_place_of_the_mistake(stack: Stack) -> None:
    failed = ray_job_submit(stack, CONFIG, ("training.num_stepz=4",))
    assert failed.returncode != 0
    assert "training.num_stepz" in failed.stdout
    assert "num_steps" in failed.stdout


def test_no_secret_reaches_the_logs(stack: Stack, submitted: Submitted) -> None:
    token = Path(stack.token_path).read_text().strip()
    assert token not in submitted.output
