"""SQLite files of several processes: each keeps a write-ahead log."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

_AGAIN_S = 0.01


def keep_write_ahead_log(
    database: sqlite3.Connection, patience_s: float, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Have a file keep a write-ahead log, which it then does for all.

    SQLite itself waits for no other process that makes the same new file: both hold it, and one is refused at once.

    Args:
        database: opened on the file.
        patience_s: seconds for which others may be at it.
        sleep: waits.

    Raises:
        sqlite3.DatabaseError: they are for longer, or it is no database.
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # The lower byte is the kind.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            sleep(_AGAIN_S)
        else:
            return
