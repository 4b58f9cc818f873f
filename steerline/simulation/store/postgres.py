"""A store on a PostgreSQL server: many machines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from steerline.errors import StoreAwayError
from steerline.simulation.store.sql import TABLES, Rows, SqlStore


class PostgresStore(SqlStore):
    """Keeps simulations on a PostgreSQL server. See `Store`.

    Args:
        uri: `postgresql://user@host:port/database`; the password comes from the environment or a password file.
        clock: seconds since 1970. Machines whose clocks differ may take over early or late; the token keeps the log
            whole in either case.

    Raises:
        StoreAwayError: the server does not answer, now or later; the next call connects again.
    """

    lock_row = " FOR UPDATE"

    def __init__(self, uri: str, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self._uri = uri
        self._mutex = threading.RLock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        with self._transaction():
            # Two processes that make the tables at once would fail over the catalogue.
            self._query("SELECT pg_advisory_xact_lock(7310531)")
            for table in TABLES:
                self._query(table.format(bytes="BYTEA", serial="BIGSERIAL PRIMARY KEY"))

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """The connection, made anew if it was lost; what had not been committed was lost with it."""
        with self._mutex:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self._uri, autocommit=True)
                yield self._connection
            except psycopg.OperationalError as error:
                where = self._uri.rpartition("@")[2]
                raise StoreAwayError("the simulation store does not answer", where=where, got=str(error)) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._connected() as connection, connection.transaction():
            yield

    def _query(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        with self._connected() as connection:
            cursor = connection.execute(_spelled(statement), values)
            return [] if cursor.description is None else cursor.fetchall()

    def _many(self, statement: str, values: Sequence[Sequence[Any]]) -> None:
        with self._connected() as connection, connection.cursor() as cursor:
            cursor.executemany(_spelled(statement), values)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _spelled(statement: str) -> str:
    # Statements are constants of `sql.py`; values never enter their text.
    return statement.replace("?", "%s")
