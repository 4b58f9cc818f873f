"""Where a run's files lie, how it ended, and what the driver says."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.finetune import main
from steerline.errors import CheckpointError, NonFiniteLossError, SteerlineError
from steerline.training.job import Job, Outcome
from steerline.training.workers import Workers
from tests.law.runs import tiny_config


def job(tmp_path: Path, **changes: object) -> Job:
    from steerline.config.finetune import FinetuneSpec

    return Job.of(FinetuneSpec.model_validate(tiny_config(cluster__storage_path=str(tmp_path), **changes)))


def test_how_a_run_is_carried_out_does_not_change_where_it_lies(tmp_path: Path) -> None:
    assert job(tmp_path).folder == job(tmp_path, cluster__num_workers=4, training__micro_batch_size=1).folder
    assert job(tmp_path).folder != job(tmp_path, seed=1).folder
    assert job(tmp_path).folder.parent == tmp_path


def test_an_outcome_comes_back_as_it_was(tmp_path: Path) -> None:
    assert Outcome.load(tmp_path) is None
    outcome = Outcome("r", "finished", 3, 3, {"a": 1.0}, {"export": "x"}, {"tasks": []})
    outcome.save(tmp_path)
    assert Outcome.load(tmp_path) == outcome


def test_one_worker_agrees_with_itself() -> None:
    workers = Workers()
    error = SteerlineError("x")
    assert workers.first_error(error) is error
    assert workers.first_error(None) is None
    assert workers.from_first(7) == 7


@pytest.mark.parametrize("error", [NonFiniteLossError, CheckpointError])
def test_errors_keep_their_class_and_code_on_the_way_from_a_worker(error: type[SteerlineError]) -> None:
    import pickle

    sent = error("what", where="here", got=1)
    received = pickle.loads(pickle.dumps(sent))
    assert type(received) is error
    assert (str(received), received.exit_code) == (str(sent), error.exit_code)


def test_a_bad_config_ends_with_the_configs_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: x\nmodell: {}\n")
    assert main([str(file)]) == 2
    assert "modell" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "ray job submit" in said
    assert "exit codes" in said
