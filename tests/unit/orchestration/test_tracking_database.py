"""The database of the local MLflow server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from steerline.errors import StackError
from steerline.orchestration import tracking_database
from steerline.orchestration.tracking_database import database_uri


def test_it_keeps_a_write_ahead_log_one_made_before_too_and_what_it_held(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE runs (name)")
    assert database_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_one_that_somebody_reads_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_database, "_BUSY_S", 0.0)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as reader:
        reader.execute("CREATE TABLE runs (name)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM runs").fetchall()
        assert database_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_file_that_is_no_database_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database " * 100)
    with pytest.raises(StackError, match="cannot be opened") as caught:
        database_uri(tmp_path)
    assert caught.value.where == str(tmp_path / "mlflow.db")
