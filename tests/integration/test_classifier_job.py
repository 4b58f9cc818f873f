"""The packaged SAFR config, shortened, through the real job: real reviews, Ray, early stopping, export, evaluation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steerline.config.load import load
from steerline.config.model import LocalModel, ModelSpec
from steerline.data.catalogue import ENTRIES
from steerline.evaluation.results import EvaluationResult
from steerline.models.load import load_model
from steerline.orchestration.stack import Stack
from steerline.training.checkpoint import CheckpointStore
from steerline.training.early_stopping import EarlyStopping
from steerline.training.history import read_history
from steerline.training.job import Job, Outcome

pytestmark = [pytest.mark.integration, pytest.mark.packaged]

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "jobs" / "configs" / "safr_imdb_packaged.yaml"
PATIENCE_S = 280.0
SHORTER = {
    "data.train.0.limit": 320,
    "data.heldout.0.limit": 64,
    "data.max_length_tokens": 48,
    "evaluation.tasks.0.dataset.limit": 60,
    "evaluation.num_bootstrap": 100,
    # So large a rate that the accuracy soon stops rising.
    "training.optimizer.learning_rate": 0.003,
    "training.num_epochs": 12,
    "training.early_stopping.patience": 2,
    "training.log_every_steps": 1,
    "tracking.system_metrics_every_s": "null",
}


def start(folder: Path, stack: Stack, **changes: object) -> tuple[Job, subprocess.Popen[str]]:
    settings = [f"{key}={value}" for key, value in {**SHORTER, **changes}.items()]
    settings.append(f"cluster.storage_path={folder}")
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.finetune", str(CONFIG), *(f"--set={setting}" for setting in settings)],
        cwd=ROOT,
        env={**os.environ, **stack.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Job.of(load(CONFIG, settings).spec), process


def run(folder: Path, stack: Stack, **changes: object) -> tuple[Job, str]:
    job, process = start(folder, stack, **changes)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    return job, output


def trained_looks(job: Job) -> dict[int, float]:
    looks = read_history(job.folder).get("heldout/accuracy", {})
    return {step: value for step, value in looks.items() if step > 0}


def test_the_packaged_config_trains_stops_early_exports_its_best_and_is_judged(stack: Stack, tmp_path: Path) -> None:
    job, output = run(tmp_path, stack)
    outcome = Outcome.load(job.folder)
    assert outcome is not None
    assert outcome.state == "finished"
    history = read_history(job.folder)
    for name in ("train/importance", "train/interaction", "train/accuracy", "heldout/accuracy", "train/loss_ce"):
        assert name in history, sorted(history)
    looks = trained_looks(job)
    assert outcome.best_step == min(step for step, value in looks.items() if value == max(looks.values()))
    assert outcome.step in CheckpointStore(job.checkpoints).steps()
    assert outcome.best_step in CheckpointStore(job.checkpoints).steps()
    assert f"step {outcome.best_step} was the best" in output
    assert json.loads((job.export / "steerline.json").read_text())["step"] == outcome.best_step
    result = EvaluationResult.load(job.folder / "evaluation.json").task("imdb")
    assert (result.num_items, result.complete, result.method) == (60, True, "classify")
    source = LocalModel(kind="local", path=str(job.export))
    loaded = load_model(ModelSpec(source=source), classes=("negative", "positive"))
    assert loaded.model.config.model_type == "safr_classifier"
    assert loaded.tokenizer.pad_token_id == 0


def test_a_run_that_goes_on_with_fewer_workers_keeps_its_count_and_its_best(stack: Stack, tmp_path: Path) -> None:
    halves = {
        "training.micro_batch_size": 16,
        "cluster.cpus_per_worker": 1,
        "zero.stage": 2,
        # So that it is stopped long before it would end.
        "training.early_stopping.patience": 4,
    }
    job, process = start(tmp_path, stack, **halves, **{"cluster.num_workers": 2})
    deadline = time.monotonic() + PATIENCE_S
    while len(trained_looks(job)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    same, _ = run(tmp_path, stack, **halves, **{"cluster.num_workers": 1})
    assert same.folder == job.folder
    outcome = Outcome.load(job.folder)
    assert outcome is not None
    wanted = job.spec.training.early_stopping
    assert wanted is not None
    count = EarlyStopping(wanted)
    for step, value in trained_looks(job).items():
        assert not count.has_ended
        count = count.after(step, {"heldout/accuracy": value})
    assert outcome.best_step == count.best_step
    assert count.has_ended or outcome.step == outcome.num_steps


@pytest.mark.parametrize("name", ["imdb-train", "imdb-dev", "imdb-test"])
def test_the_packaged_reviews_are_all_there_and_in_one_part_each(name: str) -> None:
    from steerline.config.data import PackagedData
    from steerline.data.sources import read_rows

    rows = read_rows(PackagedData(kind="packaged", name=name))
    assert len(rows) == ENTRIES[name].rows
    assert {row["sentiment"] for row in rows.rows} == {"negative", "positive"}
    texts = {row["review"] for row in rows.rows}
    assert len(texts) == len(rows)
    for other in {"imdb-train", "imdb-dev", "imdb-test"} - {name}:
        assert texts.isdisjoint(row["review"] for row in read_rows(PackagedData(kind="packaged", name=other)).rows)
