"""Tokens that each key has used, by day, and those that may come: in a file beside the keys, so that a restart forgets
nothing, and all processes of the machine share a day."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from steerline.errors import AccessError
from steerline.write_ahead import keep_write_ahead_log

log = logging.getLogger("steerline.serving")

HELD_S = 600.0
"""Seconds for which tokens are held at most: who held them may have died."""
_SECONDS_PER_DAY = 86_400
_KEPT_DAYS = 400
# Callers wait for it; whoever holds the file for longer will hold it for long.
_BUSY_S = 1.0
_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS usage (
        key TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (key, day)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS held (
        name TEXT PRIMARY KEY, key TEXT NOT NULL, tokens INTEGER NOT NULL, until REAL NOT NULL
    ) WITHOUT ROWID
    """,
)
_ADD = "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens"


@dataclass(frozen=True, slots=True)
class Taken:
    """What is gone of a key's day."""

    used: int
    """Tokens that it has used."""
    held: int
    """Tokens that may come of what is being written for it."""

    def leaves_some_of(self, most: int) -> bool:
        """Whether any of so many are left."""
        return self.used + self.held < most


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
        self._unreleased: set[str] = set()

    def add(self, key: str, tokens: int) -> None:
        """Count tokens against today, by UTC."""
        with self._lock:
            self._unwritten[key, self._day()] += tokens
            self._write()

    def today(self, key: str) -> int:
        """Tokens of a key since midnight, UTC.

        Raises:
            AccessError: another process holds the file, it is damaged, or the disk does not give it.
        """
        with self._lock, self._answering() as database:
            return self._taken(database, key).used

    def hold(self, name: str, key: str, tokens: int, most: int) -> Taken:
        """Hold tokens that may come of what is to be written for a key, if any of its day are left.

        Args:
            name: to release them by.
            key: whose.
            tokens: that may come.
            most: tokens of its day.

        Returns:
            what was gone before.

        Raises:
            AccessError: as for `today`.
        """
        with self._lock, self._answering() as database:
            if self._unreleased:
                self._write()
            with database:
                database.execute("BEGIN IMMEDIATE")
                taken = self._taken(database, key)
                if taken.leaves_some_of(most):
                    until = self._clock() + HELD_S
                    database.execute("INSERT INTO held VALUES (?, ?, ?, ?)", (name, key, tokens, until))
            return taken

    def release(self, name: str) -> None:
        """Hold tokens no more, whether or not they were held."""
        with self._lock:
            self._unreleased.add(name)
            self._write()

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

    def _taken(self, database: sqlite3.Connection, key: str) -> Taken:
        place = key, self._day()
        row = database.execute("SELECT tokens FROM usage WHERE key = ? AND day = ?", place).fetchone()
        held = database.execute("SELECT total(tokens) FROM held WHERE key = ? AND until > ?", (key, self._clock()))
        return Taken(self._unwritten[place] + (0 if row is None else int(row[0])), int(held.fetchone()[0]))

    def _write(self) -> None:
        """What cannot be written now is kept, and written with the next."""
        try:
            with self._open() as database:
                database.executemany(_ADD, [(key, day, tokens) for (key, day), tokens in self._unwritten.items()])
                database.executemany("DELETE FROM held WHERE name = ?", [(name,) for name in self._unreleased])
        except sqlite3.DatabaseError as error:
            log.warning("used tokens cannot be written to %s, and are tried again: %s", self._file, error)
        else:
            self._unwritten.clear()
            self._unreleased.clear()

    @contextmanager
    def _answering(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._open()
        except sqlite3.DatabaseError as error:
            raise AccessError(
                "the file of used tokens does not answer",
                where=str(self._file),
                got=str(error),
                fix="see which process holds it, and whether the disk is full; move it away if it is damaged",
            ) from error

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # The lock above lets one thread in at a time.
            database = sqlite3.connect(self._file, timeout=_BUSY_S, check_same_thread=False)
            try:
                keep_write_ahead_log(database, _BUSY_S)
                # A power cut may lose the last counts, never the file.
                database.execute("PRAGMA synchronous = NORMAL")
                for table in _SCHEMA:
                    database.execute(table)
                with database:
                    database.execute("DELETE FROM usage WHERE day < ?", (self._day() - _KEPT_DAYS,))
                    database.execute("DELETE FROM held WHERE until <= ?", (self._clock(),))
            except sqlite3.DatabaseError:
                database.close()
                raise
            self._database = database
        return self._database


def usage_beside(keys: Path) -> UsageBook:
    """The book that belongs to a file of keys."""
    return UsageBook(keys.with_name("usage.db"))
