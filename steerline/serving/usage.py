"""Tokens that each key has used, by day: in a file beside the keys, so that a restart forgets nothing."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

_SECONDS_PER_DAY = 86_400
_KEPT_DAYS = 400
_BUSY_S = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    key TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (key, day)
) WITHOUT ROWID
"""


class UsageBook:
    """Sums of tokens. Several processes of one machine may share the file.

    Args:
        file: an SQLite database, made when it is first needed.
        clock: seconds since the epoch.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def add(self, key: str, tokens: int) -> None:
        """Count tokens against today, by UTC."""
        with self._lock:
            database = self._open()
            database.execute(
                "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens",
                (key, self._day(), tokens),
            )
            database.commit()

    def today(self, key: str) -> int:
        """Tokens of a key since midnight, UTC."""
        with self._lock:
            row = self._open().execute("SELECT tokens FROM usage WHERE key = ? AND day = ?", (key, self._day()))
            found = row.fetchone()
        return 0 if found is None else int(found[0])

    def seconds_to_midnight(self) -> float:
        """Until the next day of UTC begins."""
        return _SECONDS_PER_DAY - self._clock() % _SECONDS_PER_DAY

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _day(self) -> int:
        return int(self._clock() // _SECONDS_PER_DAY)

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # The lock above lets one thread in at a time.
            database = sqlite3.connect(self._file, timeout=_BUSY_S, check_same_thread=False)
            database.execute("PRAGMA journal_mode = WAL")
            # A power cut may lose the last counts, never the file.
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_SCHEMA)
            database.execute("DELETE FROM usage WHERE day < ?", (self._day() - _KEPT_DAYS,))
            database.commit()
            self._database = database
        return self._database


def usage_beside(keys: Path) -> UsageBook:
    """The book that belongs to a file of keys."""
    return UsageBook(keys.with_name("usage.db"))
