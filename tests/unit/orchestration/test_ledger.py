from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from steerline.errors import SubmitError
from steerline.orchestration.ledger import Attempt, Ledger, State


def attempt(run_name: str = "demo-0a1b", number: int = 1) -> Attempt:
    return Attempt(
        submission_id=f"{run_name}-a{number}",
        run_name=run_name,
        attempt=number,
        kind="finetune",
        root=Path("/somewhere"),
        config="jobs/configs/demo.yaml",
        overrides=("seed=3", "name=a b"),
        storage_path="/runs",
        address="http://127.0.0.1:8265",
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "home" / "ledger.db")


def test_an_attempt_reads_back_as_it_was_written(ledger: Ledger) -> None:
    added = ledger.add(attempt())
    assert added.submitted_at
    assert ledger.attempts() == [added]
    assert Ledger(ledger.file).attempts() == [added]


def test_a_ledger_of_an_earlier_version_is_read_and_written(ledger: Ledger) -> None:
    old = ledger.add(attempt())
    with sqlite3.connect(ledger.file) as connection:
        connection.execute("ALTER TABLE attempts DROP COLUMN tracking_uri")
    connection.close()
    again = Ledger(ledger.file)
    new = again.add(replace(attempt(number=2), tracking_uri="http://m:5000"))
    assert again.attempts() == [old, new]


def test_several_processes_may_write_at_once(ledger: Ledger) -> None:
    assert sqlite3.connect(ledger.file).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_same_attempt_twice_is_somebody_elses_submission(ledger: Ledger) -> None:
    ledger.add(attempt())
    with pytest.raises(SubmitError, match="another process"):
        ledger.add(attempt())


def test_an_update_changes_state_exit_code_and_message(ledger: Ledger) -> None:
    ledger.add(attempt())
    ledger.update("demo-0a1b-a1", State.FAILED, exit_code=8, message="NaN")
    (now,) = ledger.attempts("demo-0a1b")
    assert (now.state, now.exit_code, now.message) == (State.FAILED, 8, "NaN")


def test_a_run_is_found_by_name_prefix_and_submission_id(ledger: Ledger) -> None:
    first, second = ledger.add(attempt()), ledger.add(attempt(number=2))
    other = ledger.add(attempt("other-77"))
    assert ledger.find("demo-0a1b") == second
    assert ledger.find("demo") == second
    assert ledger.find("demo-0a1b-a1") == first
    assert ledger.find("o") == other
    assert ledger.find("nobody") is None


def test_a_whole_name_wins_over_being_the_beginning_of_another(ledger: Ledger) -> None:
    ledger.add(attempt("demo"))
    ledger.add(attempt("demo-long"))
    assert ledger.find("demo") == ledger.attempts("demo")[0]
    with pytest.raises(SubmitError, match="more than one") as caught:
        ledger.find("dem")
    assert "demo, demo-long" in str(caught.value)


def test_a_forgotten_attempt_may_be_submitted_again(ledger: Ledger) -> None:
    ledger.add(attempt())
    ledger.forget("demo-0a1b-a1")
    assert ledger.attempts() == []
    assert replace(ledger.add(attempt()), submitted_at="", updated_at="") == attempt()


def test_only_final_states_have_ended() -> None:
    ended = {State.STOPPED, State.SUCCEEDED, State.FAILED, State.LOST}
    assert {state for state in State if state.ended} == ended
    assert State.UNKNOWN.label == "unknown (cluster gone)"


def test_a_ledger_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.write_text("no database, but long enough to be looked at as one")
    for unusable in (file, file / "below.db", tmp_path):
        with pytest.raises(SubmitError, match="ledger of jobs cannot be used") as caught:
            Ledger(unusable)
        assert caught.value.where == str(unusable)
