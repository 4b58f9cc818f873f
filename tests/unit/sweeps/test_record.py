"""What the tracking server hears of a sweep's trials, and when."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from steerline.errors import TrackingError
from steerline.sweeps import record
from steerline.sweeps.board import Board
from steerline.sweeps.ledger import Found, Ledger
from steerline.sweeps.record import TrialRecorder
from steerline.tracking.connection import TrackingDeniedError, TrackingRefusedError
from tests.unit.sweeps.sweeps import sweep
from tests.unit.tracking.fake import RUN

FINISHED = Found("finished", metrics={"heldout/loss_ce": 1.0})


class Server:
    """Keeps the names of the trials that it was told of; `meet` is called by each request before it is answered."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.meet: Any = lambda: None

    def record(self, name: str, label: str, **_: Any) -> None:
        self.meet()
        self.told.append(name)

    def refresh(self) -> None:
        """Nothing new."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(record, "Children", lambda *_, **__: made)
    return made


def played(folder: Path) -> Board:
    """A board whose three trials have ended."""
    board = Board(sweep(), Ledger(folder))
    board.put([(trial, FINISHED) for trial in board.take(3)])
    return board


def test_the_next_trials_are_told_while_the_server_works_on_one(server: Server, tmp_path: Path) -> None:
    board = played(tmp_path)
    together = threading.Barrier(4, timeout=30)
    server.meet = together.wait
    with TrialRecorder(RUN, sweep(), light=True) as recorder:
        for (trial,) in board.trials.values():
            recorder.record(trial, FINISHED)
        together.wait()
    assert sorted(server.told) == sorted(board.ledger.records)


def test_trials_that_a_killed_attempt_had_not_told_of_are_told_at_the_end(server: Server, tmp_path: Path) -> None:
    played(tmp_path)
    board = Board(sweep(), Ledger(tmp_path))
    with TrialRecorder(RUN, sweep(), light=True) as recorder:
        recorder.complete(board)
    assert sorted(server.told) == sorted(board.ledger.records)


@pytest.mark.parametrize("error", [TrackingError("away"), TrackingDeniedError("not signed in", got="401")])
def test_a_trial_that_the_server_was_away_for_or_wanted_other_credentials_for_is_told_again_at_the_end(
    error: TrackingError, server: Server, tmp_path: Path
) -> None:
    board = played(tmp_path)
    away = iter([True])

    def meet() -> None:
        if next(away, False):
            raise error

    server.meet = meet
    with TrialRecorder(RUN, sweep(), light=True) as recorder:
        for (trial,) in board.trials.values():
            recorder.record(trial, FINISHED)
        recorder.complete(board)
    assert sorted(server.told) == sorted(board.ledger.records)
    assert recorder.refused == {}


def test_a_server_that_has_not_answered_for_too_long_is_told_of_no_further_trial(
    server: Server, tmp_path: Path
) -> None:
    board = played(tmp_path)
    with TrialRecorder(RUN, sweep(), light=True, patience_s=0.0) as recorder:
        missing = recorder.complete(board)
    assert server.told == []
    assert {trial.name for trial in missing} == set(board.ledger.records)


def test_what_the_server_refuses_is_said_once_in_its_words_and_not_asked_again(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board, asked = played(tmp_path), []

    def refuse() -> None:
        asked.append(None)
        raise TrackingRefusedError("The tracking server refused to record a trial", got="no experiment 7")

    server.meet = refuse
    with TrialRecorder(RUN, sweep(), light=True) as recorder:
        for (trial,) in board.trials.values():
            recorder.record(trial, FINISHED)
        away = recorder.complete(board)
    assert away == []
    assert recorder.refused == dict.fromkeys(board.ledger.records, "no experiment 7")
    assert len(asked) == 3
    assert [record.getMessage() for record in caplog.records].count("MLflow refuses trials: no experiment 7") == 1


def test_who_stops_a_sweep_waits_for_the_requests_that_are_under_way_alone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = threading.Barrier(5, timeout=30), threading.Event()
    asked: list[None] = []

    class Threads(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            gate.set()
            super().shutdown(wait=wait)

    def meet() -> None:
        asked.append(None)
        if not gate.is_set():
            begun.wait()
            gate.wait()
        raise TrackingError("away")

    monkeypatch.setattr(record, "ThreadPoolExecutor", Threads)
    server.meet = meet
    ((trial,), *_) = played(tmp_path).trials.values()

    def stopped() -> None:
        with TrialRecorder(RUN, sweep(), light=True) as recorder:
            for _ in range(20):
                recorder.record(trial, FINISHED)
            begun.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(asked) == 4
