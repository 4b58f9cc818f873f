"""Tokens that each key has used, by day: in a file beside the keys, so that a restart forgets nothing."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from steerline.errors import AccessError

log = logging.getLogger("steerline.serving")

_SECONDS_PER_DAY = 86_400
_KEPT_DAYS = 400
# Callers wait for it; whoever holds the file for longer will hold it for long.
_BUSY_S = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    key TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (key, day)
) WITHOUT ROWID
"""
_ADD = "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens"


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
        self._unwritten: Counter[tuple[str, int]] = Counter()

    def add(self, key: str, tokens: int) -> None:
        """Count tokens against today, by UTC. What cannot be written now is kept, and written with the next."""
        with self._lock:
            self._unwritten[key, self._day()] += tokens
            try:
                self._write()
            except sqlite3.DatabaseError as error:
                log.warning("used tokens cannot be written to %s, and are tried again: %s", self._file, error)

    def today(self, key: str) -> int:
        """Tokens of a key since midnight, UTC.

        Raises:
            AccessError: another process holds the file, it is damaged, or the disk does not give it.
        """
        place = key, self._day()
        with self._lock:
            try:
                row = self._open().execute("SELECT tokens FROM usage WHERE key = ? AND day = ?", place).fetchone()
            except sqlite3.DatabaseError as error:
                raise AccessError(
                    "the file of used tokens does not answer",
                    where=str(self._file),
                    got=str(error),
                    fix="see which process holds it, and whether the disk is full; move it away if it is damaged",
                ) from error
            return self._unwritten[place] + (0 if row is None else int(row[0]))

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

    def _write(self) -> None:
        with self._open() as database:
            database.executemany(_ADD, [(key, day, tokens) for (key, day), tokens in self._unwritten.items()])
        self._unwritten.clear()

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # The lock above lets one thread in at a time.
            database = sqlite3.connect(self._file, timeout=_BUSY_S, check_same_thread=False)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                # A power cut may lose the last counts, never the file.
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute(_SCHEMA)
                with database:
                    database.execute("DELETE FROM usage WHERE day < ?", (self._day() - _KEPT_DAYS,))
            except sqlite3.DatabaseError:
                database.close()
                raise
            self._database = database
        return self._database


def usage_beside(keys: Path) -> UsageBook:
    """The book that belongs to a file of keys."""
    return UsageBook(keys.with_name("usage.db"))
