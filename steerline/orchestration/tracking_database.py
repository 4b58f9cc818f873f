"""The database of the local MLflow server."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from steerline.errors import StackError
from steerline.orchestration.stack_folders import usable

log = logging.getLogger(__name__)

_BUSY_S = 5.0


def database_uri(folder: Path) -> str:
    """The address of the database in a folder, which is made where there is none.

    It keeps a write-ahead log: a commit then flushes the disk once instead of several times and readers wait for no
    writer, which halves the time of a request. The setting stays in the file. One that another process has open keeps
    the mode that it has until the next time.

    Raises:
        StackError: the file is no database, or cannot be opened.
    """
    with usable(folder.parent):
        folder.mkdir(exist_ok=True)
    path = folder / "mlflow.db"
    uri = f"sqlite:///{path}"
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            log.warning("%s is open in another process, and keeps its journal mode: %s", path, error)
            return uri
        raise StackError(
            "MLflow's database cannot be opened",
            where=str(path),
            got=error,
            expected="a SQLite database that may be read and written",
            fix="move the file and those whose names begin like its away",
        ) from error
    return uri
