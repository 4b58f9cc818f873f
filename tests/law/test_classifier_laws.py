"""A classifier's run, whole: it ends for want of gain and exports its best weights, however it was interrupted."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from steerline.errors import CheckpointError
from steerline.evaluation.results import EvaluationResult
from steerline.training.checkpoint import CheckpointStore
from steerline.training.history import read_history
from steerline.training.job import Failure, Job, Outcome
from tests.law.runs import carry_out, tiny_job

pytestmark = pytest.mark.usefixtures("process_group")

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "vmask_hidden_size": 8,
    "num_hidden_layers": 1,
}
FILLERS = ("the", "a", "film", "of", "it", "was")
EARLY = {"metric": "heldout/accuracy", "mode": "max", "patience": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts whose class is told by one word in them, and a held-out set with some labels wrong."""
    folder = tmp_path_factory.mktemp("data")
    draw = random.Random(0)
    for name, count, wrong in (("train", 64, 0.0), ("heldout", 24, 0.25), ("test", 16, 0.0)):
        lines = []
        for _ in range(count):
            label = draw.randrange(2)
            words = [*draw.choices(FILLERS, k=draw.randrange(2, 7)), ("bad", "good")[label]]
            draw.shuffle(words)
            lines.append(json.dumps({"text": " ".join(words), "label": label ^ (draw.random() < wrong)}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def rows(data: Path, name: str) -> dict[str, Any]:
    return {
        "source": {"kind": "file", "path": str(data / f"{name}.jsonl")},
        "format": {"kind": "classification", "classes": ["bad", "good"]},
    }


def classifier_job(folder: Path, data: Path, **changes: Any) -> Job:
    settings = {
        "model__source": {
            "kind": "random",
            "architecture": "safr_classifier",
            "overrides": SIZES,
            "tokenizer": {"kind": "words", "min_frequency": 1},
        },
        "data": {"train": [rows(data, "train")], "heldout": [rows(data, "heldout")], "max_length_tokens": 16},
        "objective": {"kind": "classification"},
        "training": {
            "num_steps": 60,
            "global_batch_size": 16,
            "micro_batch_size": 8,
            "precision": "fp32",
            "optimizer": {"learning_rate": 0.01},
            "schedule": {"kind": "constant", "warmup_steps": 0},
            "heldout_every_epochs": 1,
            "early_stopping": EARLY,
            "save_every_steps": 3,
            "keep_checkpoints": 1,
        },
        "evaluation": {
            "num_bootstrap": 100,
            "tasks": [{"name": "films", "method": "classify", "dataset": rows(data, "test")}],
        },
        **changes,
    }
    return tiny_job(folder, **settings)


def finished(job: Job) -> Outcome:
    outcome, said = carry_out(job)
    assert isinstance(outcome, Outcome), said
    assert outcome.state == "finished"
    return outcome


def weights(job: Job) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(job.export / "model.safetensors")
    return found


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, data: Path, process_group: None) -> tuple[Job, Outcome]:
    job = classifier_job(tmp_path_factory.mktemp("ended"), data)
    return job, finished(job)


def test_a_run_without_gain_ends_early_and_says_which_step_was_the_best(ended: tuple[Job, Outcome]) -> None:
    job, outcome = ended
    looks = read_history(job.folder)["heldout/accuracy"]
    trained = {step: value for step, value in looks.items() if step > 0}
    best = max(trained.values())
    first = min(step for step, value in trained.items() if value == best)
    assert outcome.best_step == first
    assert outcome.step == first + 8 < outcome.num_steps
    assert outcome.ended_because is not None
    assert "no gain for 2 looks" in outcome.ended_because
    assert outcome.metrics["heldout/accuracy"] == best
    assert list(looks) == list(range(0, outcome.step + 1, 4))


def test_the_best_checkpoint_is_kept_beside_the_newest(ended: tuple[Job, Outcome]) -> None:
    job, outcome = ended
    assert CheckpointStore(job.checkpoints).steps() == [outcome.best_step, outcome.step]
    assert outcome.files["checkpoint"].endswith(f"step-{outcome.best_step:06d}")


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_the_export_is_that_of_a_run_that_is_only_as_long_as_the_best_step(
    ended: tuple[Job, Outcome], data: Path, tmp_path: Path, stage: int
) -> None:
    job, outcome = ended
    if stage:
        job = classifier_job(tmp_path / "staged", data, zero__stage=stage)
        outcome = finished(job)
    short = classifier_job(
        tmp_path / "short",
        data,
        training__num_steps=outcome.best_step,
        training__early_stopping=None,
        zero__stage=stage,
    )
    finished(short)
    found, expected = weights(job), weights(short)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)
    assert json.loads((job.export / "steerline.json").read_text())["step"] == outcome.best_step


def test_a_run_that_is_stopped_keeps_its_count_and_its_best(
    ended: tuple[Job, Outcome], data: Path, tmp_path: Path
) -> None:
    expected = ended[1]
    job = classifier_job(tmp_path, data)
    assert expected.best_step is not None
    for stop_after in (2, expected.best_step - 1, 5):
        outcome, _ = carry_out(job, stop_after=stop_after)
        assert isinstance(outcome, Outcome)
        assert outcome.state == "stopped"
    outcome = finished(job)
    assert (outcome.step, outcome.best_step, outcome.ended_because) == (
        expected.step,
        expected.best_step,
        expected.ended_because,
    )
    for name, tensor in weights(ended[0]).items():
        torch.testing.assert_close(weights(job)[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_run_that_died_before_its_export_ends_where_it_had_ended(
    ended: tuple[Job, Outcome], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steerline.training import worker

    def die(*_: Any, **__: Any) -> None:
        raise OSError("killed")

    job = classifier_job(tmp_path, data)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "export_and_prove", die)
        with pytest.raises(OSError, match="killed"):
            carry_out(job)
    steps = read_history(job.folder)["train/loss"]
    outcome = finished(job)
    assert (outcome.step, outcome.best_step) == (ended[1].step, ended[1].best_step)
    assert read_history(job.folder)["train/loss"] == steps


def test_a_damaged_best_checkpoint_is_an_error_that_names_it(data: Path, tmp_path: Path) -> None:
    job = classifier_job(tmp_path, data, training__early_stopping={**EARLY, "patience": 50})
    carry_out(job, stop_after=30)
    best = json.loads((CheckpointStore(job.checkpoints).path(30) / "state.json").read_text())["early_stopping"]
    shard = next(CheckpointStore(job.checkpoints).path(best["best_step"]).glob("shards/*.pt"))
    shard.write_bytes(shard.read_bytes()[:-10])
    failure, _ = carry_out(job)
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, CheckpointError)
    assert f"step-{best['best_step']:06d} cannot be used" in str(failure.error)


def test_the_test_set_is_judged_with_an_interval_and_its_items_can_be_paired(ended: tuple[Job, Outcome]) -> None:
    job, outcome = ended
    result = EvaluationResult.load(job.folder / "evaluation.json")
    task = result.task("films")
    assert (task.method, task.num_items, task.complete, task.chance) == ("classify", 16, True, 0.5)
    assert outcome.metrics["eval/films/accuracy"] == result.accuracy(task).mean >= 0.9
    assert {item.prediction for item in task.items} <= {"bad", "good"}


def test_a_metric_that_is_not_measured_fails_before_the_first_step(data: Path, tmp_path: Path) -> None:
    job = classifier_job(tmp_path, data, training__early_stopping={"metric": "heldout/f1", "mode": "max"})
    failure, _ = carry_out(job)
    assert isinstance(failure, Failure)
    assert "does not measure" in str(failure.error)
    assert CheckpointStore(job.checkpoints).steps() == []


@pytest.mark.parametrize(
    "source",
    [
        {
            "kind": "random",
            "architecture": "bert",
            "overrides": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "max_position_embeddings": 64,
            },
            "tokenizer": {"kind": "words", "min_frequency": 1},
        },
        {
            "kind": "random",
            "architecture": "llama",
            "overrides": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
            },
        },
    ],
    ids=["bert", "llama"],
)
@pytest.mark.parametrize(
    "steering",
    [{}, {"importance": {"site": "block_out"}, "interaction": {"form": "hidden"}}],
    ids=["plain", "SAFR"],
)
def test_other_encoders_and_decoders_become_classifiers(
    data: Path, tmp_path: Path, source: dict[str, Any], steering: dict[str, Any]
) -> None:
    job = classifier_job(
        tmp_path,
        data,
        model__source=source,
        data__max_length_tokens=64,
        training__num_steps=4,
        training__early_stopping=None,
        objective={"kind": "classification", "steering": steering},
    )
    outcome = finished(job)
    terms = {name.partition("/")[2] for name in read_history(job.folder) if name.startswith("train/")}
    assert terms >= set(steering)
    assert outcome.best_step is None
    assert outcome.step == 4
    assert set(outcome.metrics) >= {"train/accuracy", "heldout/accuracy", "eval/films/accuracy"}
