"""What the tracking server hears of a sweep's trials, and when."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from steerline.errors import TrackingError
from steerline.sweeps import record
from steerline.sweeps.board import Board
from steerline.sweeps.ledger import Found, Ledger
from steerline.sweeps.record import TrialRecorder
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
    monkeypatch.setattr(record, "Children", lambda _: made)
    return made


def played(folder: Path) -> Board:
    """A board whose three trials have ended."""
    board = Board(sweep(), Ledger(folder))
    board.put([(trial, FINISHED) for trial in board.take(3)])
    return board


def test_the_next_trials_are_told_while_the_server_works_on_one(server: Server, tmp_path: Path) -> None:
    board = played(tmp_path)
    server.meet = threading.Barrier(3, timeout=30).wait
    with TrialRecorder(RUN, sweep(), light=True) as recorder:
        for (trial,) in board.trials.values():
            recorder.record(trial, FINISHED)
    assert sorted(server.told) == sorted(board.ledger.records)


def test_trials_that_a_killed_attempt_had_not_told_of_are_told_at_the_end(server: Server, tmp_path: Path) -> None:
    played(tmp_path)
    board = Board(sweep(), Ledger(tmp_path))
    with TrialRecorder(RUN, sweep(), light=True) as recorder:
        recorder.complete(board)
    assert sorted(server.told) == sorted(board.ledger.records)


def test_a_trial_that_the_server_was_away_for_is_told_again_at_the_end(server: Server, tmp_path: Path) -> None:
    board = played(tmp_path)
    away = iter([True])

    def meet() -> None:
        if next(away, False):
            raise TrackingError("away")

    server.meet = meet
    with TrialRecorder(RUN, sweep(), light=True) as recorder:
        for (trial,) in board.trials.values():
            recorder.record(trial, FINISHED)
        recorder.complete(board)
    assert sorted(server.told) == sorted(board.ledger.records)
