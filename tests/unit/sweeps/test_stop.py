"""A sweep that is asked to stop is heard at whatever it is, also before its trials train."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from steerline.config.load import Loaded
from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Point, trials
from steerline.sweeps import sweep as sweeps
from steerline.sweeps.board import Board
from steerline.sweeps.driver import stop_request
from steerline.sweeps.finetune import FinetuneTrials
from steerline.sweeps.kinds import Ended, StopSign
from steerline.sweeps.sweep import Sweep
from steerline.tracking.references import RunRef
from steerline.training import driver, ray_trainer
from steerline.training.job import Job, Outcome
from tests.unit.sweeps.sweeps import SCALE, LightTrials, sweep, sweep_config
from tests.unit.tracking.fake import RUN


@dataclass
class Workers:
    """Stands in for Ray Train: its workers look for a request to stop and are done."""

    work: Any
    train_loop_config: dict[str, Job]
    began: int = 0

    def fit(self) -> Workers:
        Workers.began += 1
        return self

    @property
    def return_value(self) -> Outcome:
        job = self.train_loop_config["job"]
        return Outcome(job.name, "stopped" if job.stop_request.exists() else "finished")


class Opening:
    """Stands in for MLflow: a run is opened when the test lets it."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> RunRef:
        self.asked.set()
        assert self.answer.wait(30)
        return RUN


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opening]:
    made = Opening()
    monkeypatch.setattr(driver, "prepare", lambda _: None)
    monkeypatch.setattr(driver, "open_run", made)
    monkeypatch.setattr(driver, "finish", lambda *_: None)
    monkeypatch.setattr(Workers, "began", 0)
    monkeypatch.setattr(
        ray_trainer, "TorchTrainer", lambda work, train_loop_config, **_: Workers(work, train_loop_config)
    )
    yield made
    made.answer.set()


def small(folder: Path) -> SweepSpec:
    config = sweep_config()
    config["base"]["cluster"] = {"storage_path": str(folder)}
    return SweepSpec.model_validate(config)


def test_a_stop_that_comes_while_a_trial_opens_its_run_holds_when_it_trains(opening: Opening, tmp_path: Path) -> None:
    spec, sign = small(tmp_path), StopSign(None, tmp_path / "stop")
    (trial,) = trials(spec, Point({SCALE: 2.0}))
    running = FinetuneTrials().start(trial, spec, RUN, sign)
    assert opening.asked.wait(30)
    stopping = threading.Thread(target=running.stop)
    stopping.start()
    request = Job.of(trial.spec).stop_request
    while not request.exists():
        assert stopping.is_alive()
    opening.answer.set()
    stopping.join(30)
    assert running.next() == Ended(None)
    assert Workers.began == 1


def test_a_sign_that_goes_up_while_a_trial_opens_its_run_is_seen(opening: Opening, tmp_path: Path) -> None:
    spec, sign = small(tmp_path), StopSign(None, tmp_path / "stop")
    (trial,) = trials(spec, Point({SCALE: 2.0}))
    running = FinetuneTrials().start(trial, spec, RUN, sign)
    assert opening.asked.wait(30)
    sign.request.touch()
    heard: list[object] = []
    following = threading.Thread(target=lambda: heard.append(running.next()))
    following.start()
    request = Job.of(trial.spec).stop_request
    while not request.exists():
        assert following.is_alive()
    opening.answer.set()
    following.join(30)
    assert heard == [Ended(None)]


def test_a_trial_that_begins_after_the_sign_went_up_does_no_work(opening: Opening, tmp_path: Path) -> None:
    spec, sign = small(tmp_path), StopSign(None, tmp_path / "stop")
    sign.request.touch()
    (trial,) = trials(spec, Point({SCALE: 2.0}))
    assert FinetuneTrials().start(trial, spec, RUN, sign).next() == Ended(None)
    assert not opening.asked.is_set()


def test_an_earlier_attempts_request_stops_no_trial(opening: Opening, tmp_path: Path) -> None:
    spec, sign = small(tmp_path), StopSign(None, tmp_path / "stop")
    (trial,) = trials(spec, Point({SCALE: 2.0}))
    job = Job.of(trial.spec)
    job.folder.mkdir(parents=True)
    job.stop_request.touch()
    Outcome(job.name, "finished").save(job.folder)
    opening.answer.set()
    ended = FinetuneTrials().start(trial, spec, RUN, sign).next()
    assert isinstance(ended, Ended)
    assert ended.found is not None
    assert ended.found.state == "finished"


@pytest.mark.parametrize("asked", [True, False])
def test_a_sweep_that_is_stopped_while_it_opens_its_run_begins_no_trial_and_an_earlier_request_holds_none_back(
    asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path))
    work = Sweep(Loaded(sweep(), {}, ()), LightTrials())
    sign, seen = stop_request(work.folder), []
    work.folder.mkdir(parents=True)
    sign.touch()

    def open_run(*_: object) -> RunRef:
        if asked:
            work.request_stop()
        return RUN

    def carry_out(board: Board, *_: object) -> None:
        seen.append((sign.exists(), len(board.take(3))))
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps, "open_run", open_run)
    monkeypatch.setattr(sweeps, "carry_out", carry_out)
    monkeypatch.setattr(sweeps, "Recorder", Mock())
    monkeypatch.setattr("steerline.sweeps.record.Children", Mock())
    with pytest.raises(KeyboardInterrupt):
        work.run()
    assert seen == [(True, 0) if asked else (False, 3)]
