"""Whatever interrupts a run, it ends as it would have, or says why it cannot and leaves its checkpoints alone."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from steerline.data.load import load_examples
from steerline.errors import CheckpointError, NonFiniteLossError
from steerline.models.export import check_manifest
from steerline.training.checkpoint import CheckpointStore
from steerline.training.job import Failure, Job, Outcome
from steerline.training.setup import gather_materials
from tests.law.runs import carry_out, losses, tiny_job

pytestmark = pytest.mark.usefixtures("process_group")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, process_group: None) -> Job:
    job = tiny_job(tmp_path_factory.mktemp("undisturbed"))
    outcome, _ = carry_out(job)
    assert isinstance(outcome, Outcome)
    assert outcome.state == "finished"
    return job


def steps_of(job: Job) -> list[int]:
    return CheckpointStore(job.checkpoints).steps()


@pytest.mark.parametrize("stage", [0, 2, 3])
@pytest.mark.parametrize("stop_after", [3, 4])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    undisturbed: Job, tmp_path: Path, stage: int, stop_after: int
) -> None:
    job = tiny_job(tmp_path, zero__stage=stage)
    stopped, _ = carry_out(job, stop_after=stop_after)
    assert isinstance(stopped, Outcome)
    assert (stopped.state, stopped.step) == ("stopped", stop_after)
    finished, said = carry_out(job)
    assert isinstance(finished, Outcome)
    assert finished.state == "finished"
    assert f"steerline: resuming from step-{stop_after:06d}" in said
    found, expected = losses(job), losses(undisturbed)
    assert found.keys() == expected.keys()
    for name, steps in expected.items():
        assert found[name] == pytest.approx(steps, rel=1e-6), name


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_an_altered_checkpoint_is_passed_over_for_the_one_before(undisturbed: Job, tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    carry_out(job, stop_after=5)
    assert steps_of(job) == [4, 5]
    shard = next((job.checkpoints / "step-000005" / "shards").glob("*.pt"))
    flip_a_bit(shard)
    _, said = carry_out(job)
    assert "steerline: resuming from step-000004" in said
    assert f"step-000005 is not used: shards/{shard.name} has another SHA-256" in "\n".join(said)
    assert losses(job)["train/loss"] == pytest.approx(losses(undisturbed)["train/loss"], rel=1e-6)


def test_a_loss_that_is_not_finite_stops_before_the_weights_and_names_samples_and_checkpoint(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, training__optimizer={"learning_rate": 1e30}, training__clip_norm=None)
    failure, _ = carry_out(job)
    assert isinstance(failure, Failure)
    error = failure.error
    assert isinstance(error, NonFiniteLossError)
    assert error.exit_code == 8
    known = {example.id for spec in job.spec.data.train for example in load_examples(spec)}
    assert error.where is not None
    named = error.where.removeprefix("samples ").split(", ")
    assert named
    assert set(named) <= known
    step = int(error.what.rpartition(" ")[2])
    assert max(losses(job)["train/loss"]) == step - 1
    for saved in steps_of(job):
        assert saved < step
        assert str(job.checkpoints / f"step-{saved:06d}") in str(error) or saved != steps_of(job)[-1]


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """The operating system refuses to write beyond this size, as a full disk does."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_ends_the_run_with_its_checkpoints_untouched(undisturbed: Job, tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    carry_out(job, stop_after=2)
    with files_of_at_most(60_000):
        failure, _ = carry_out(job)
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, CheckpointError)
    assert failure.error.exit_code == 7
    assert [path.name for path in job.checkpoints.iterdir()] == ["step-000002"]
    carry_out(job)
    assert losses(job)["train/loss"] == pytest.approx(losses(undisturbed)["train/loss"], rel=1e-6)


def test_other_data_under_the_same_config_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    lines = [json.dumps({"q": f"{i}", "a": f"{i}"}) for i in range(10)]
    data.write_text("\n".join(lines))
    format_ = {"kind": "prompt_answer", "prompt": "{q}", "answer": "{a}"}
    job = tiny_job(tmp_path / "run", data__train=[{"source": {"kind": "file", "path": str(data)}, "format": format_}])
    carry_out(job, stop_after=2)
    data.write_text("\n".join(lines[1:]))
    failure, _ = carry_out(job)
    assert isinstance(failure, Failure)
    assert "the training data are not those" in str(failure.error)


def test_a_finished_run_is_not_trained_again_but_evaluated_when_its_evaluation_changed(undisturbed: Job) -> None:
    before = (undisturbed.folder / "metrics.jsonl").read_bytes()
    evaluation = {
        "num_bootstrap": 100,
        "tasks": [
            {"name": "more", "method": "generate", "max_new_tokens": 2, "dataset": tiny_task_data()},
        ],
    }
    again = tiny_job(undisturbed.folder, evaluation=evaluation)
    assert again.name == undisturbed.name
    outcome, _ = carry_out(again)
    assert isinstance(outcome, Outcome)
    assert outcome.metrics["eval/more/num_items"] == 3
    assert (undisturbed.folder / "metrics.jsonl").read_bytes() == before


def tiny_task_data() -> dict[str, object]:
    source = {"kind": "synthetic", "generator": "arithmetic", "size": 3, "seed": 9}
    return {"source": source, "format": {"kind": "task", "task": "arithmetic"}}


@pytest.mark.parametrize(
    "changes",
    [
        {"model__lora": {"rank": 2}},
        {"model__lora": {"rank": 2}, "zero__stage": 3},
        {"training__precision": "bf16", "training__activation_checkpointing": {}},
        {"zero__stage": 3, "zero__offload_parameters": True, "zero__offload_optimizer": True},
        {"zero__stage": 2, "zero__offload_optimizer": True},
        {"training__precision": "bf16", "zero__stage": 1, "data__packing": True, "model__lora": {"rank": 2}},
        {"objective": {"steering": {"boost": {"strength": 1.0, "select": "magnitude"}}}, "evaluation__steering": "on"},
    ],
    ids="+".join,
)
def test_every_way_of_training_ends_in_a_proven_export_and_resumes(tmp_path: Path, changes: dict[str, object]) -> None:
    changes = {"training__num_steps": 3, **changes}
    job = tiny_job(tmp_path, **changes)
    carry_out(job, stop_after=2)
    outcome, _ = carry_out(job)
    assert isinstance(outcome, Outcome), outcome
    check_manifest(job.export)
    assert (job.folder / "evaluation.json").is_file()


def test_a_large_model_is_never_whole_on_a_worker_and_learns_the_same(undisturbed: Job, tmp_path: Path) -> None:
    model = {"source": {"kind": "local", "path": str(undisturbed.export)}}
    whole = tiny_job(tmp_path / "whole", model=model)
    parts = tiny_job(tmp_path / "parts", model=model, zero__stage=3, zero__offload_parameters=True)
    loaded = gather_materials(parts).objective
    assert all(parameter.numel() == 0 for parameter in loaded.parameters())
    for job in (whole, parts):
        outcome, _ = carry_out(job)
        assert isinstance(outcome, Outcome), outcome
    assert losses(parts)["train/loss"] == pytest.approx(losses(whole)["train/loss"], rel=1e-5)
