"""A store in one SQLite file, with a write-ahead log: one machine, any number of processes."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steerline.errors import SimulationError, StoreAwayError
from steerline.simulation.store.sql import TABLES, Rows, SqlStore
from steerline.write_ahead import keep_write_ahead_log

BUSY_S = 30.0
# Another process holds the file, or the disk does not take it: all of them pass, or are mended outside.
_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)


class SqliteStore(SqlStore):
    """Keeps simulations in an SQLite file. See `Store`.

    Args:
        path: the file; made with its folder if missing.
        sync: whether a transaction survives a power cut (fsync), or a killed process only.
        busy_s: seconds that a call waits for another one, of this process or of another, that holds the file.
        clock: seconds since 1970.

    Raises:
        SimulationError: the file cannot be opened, or is no database.
        StoreAwayError: later, by any call: the file cannot be read or written now.
    """

    def __init__(
        self, path: Path, *, sync: bool = True, busy_s: float = BUSY_S, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(clock)
        self._path = path
        self._busy_s = busy_s
        path.parent.mkdir(parents=True, exist_ok=True)
        self._mutex = threading.RLock()
        try:
            # Transactions are begun and ended here, never by the driver.
            self._connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
            keep_write_ahead_log(self._connection, busy_s)
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            for table in TABLES:
                self._connection.execute(table.format(bytes="BLOB", serial="INTEGER PRIMARY KEY"))
        except sqlite3.Error as error:
            raise SimulationError("the simulation store cannot be opened", where=str(path), got=str(error)) from error

    @contextmanager
    def _answering(self) -> Iterator[None]:
        # Those who queue here wait no longer than the one who waits for the file.
        if not self._mutex.acquire(timeout=self._busy_s):
            raise self._away("other calls wait for the file")
        try:
            yield
        except sqlite3.OperationalError as error:
            # The lower byte is the kind, the rest says more.
            if error.sqlite_errorcode & 0xFF not in _AWAY:
                raise
            raise self._away(str(error)) from error
        finally:
            self._mutex.release()

    def _away(self, why: str) -> StoreAwayError:
        return StoreAwayError("the simulation store does not answer", where=str(self._path), got=why)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._answering():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk has ended the transaction already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _query(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        with self._answering():
            return self._connection.execute(statement, values).fetchall()

    def _many(self, statement: str, values: Sequence[Sequence[Any]]) -> None:
        with self._answering():
            self._connection.executemany(statement, values)

    def close(self) -> None:
        self._connection.close()
