"""SQLite files of several processes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from steerline.write_ahead import keep_write_ahead_log


def test_who_opens_a_file_that_another_process_is_making_waits_for_that_as_long_as_it_may(tmp_path: Path) -> None:
    file = tmp_path / "file.db"
    with (
        closing(sqlite3.connect(file, isolation_level=None)) as other,
        closing(sqlite3.connect(file, timeout=1.0)) as own,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            keep_write_ahead_log(own, 0.0)
        keep_write_ahead_log(own, 10.0, sleep=lambda _: other.rollback())
        assert own.execute("PRAGMA journal_mode").fetchone() == ("wal",)
