"""The database of the local MLflow server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from steerline.errors import StackError


def database_uri(folder: Path) -> str:
    """The address of the database in a folder, which is made where there is none.

    It keeps a write-ahead log: a commit then flushes the disk once instead of several times and readers wait for no
    writer, which halves the time of a request. The setting stays in the file.

    Raises:
        StackError: the file is no database, or another process holds it.
    """
    folder.mkdir(exist_ok=True)
    path = folder / "mlflow.db"
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.DatabaseError as error:
        raise StackError(
            "MLflow's database cannot be opened",
            where=str(path),
            got=error,
            expected="a SQLite database that no other process has locked",
            fix="end the process that holds it, or move the file and those whose names begin like its away",
        ) from error
    return f"sqlite:///{path}"
