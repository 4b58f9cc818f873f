"""The memory of submitted jobs, which outlives the Ray head: one row for each attempt of a run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from steerline.errors import SubmitError
from steerline.home import home
from steerline.write_ahead import keep_write_ahead_log

_BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (
    submission_id TEXT PRIMARY KEY,
    run_name TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    root TEXT NOT NULL,
    config TEXT NOT NULL,
    overrides TEXT NOT NULL,
    storage_path TEXT NOT NULL,
    address TEXT NOT NULL,
    state TEXT NOT NULL,
    exit_code INTEGER,
    message TEXT,
    submitted_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    tracking_uri TEXT NOT NULL DEFAULT '',
    UNIQUE (run_name, attempt)
) STRICT;
"""
# Ledgers that were written before it was there.
_ADD_TRACKING_URI = "ALTER TABLE attempts ADD COLUMN tracking_uri TEXT NOT NULL DEFAULT ''"


class State(StrEnum):
    """Where an attempt stands. The first four end in one of the others."""

    SUBMITTING = "SUBMITTING"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    UNKNOWN = "UNKNOWN"
    """Was not finished when last seen, and its cluster does not answer. Never stored."""
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    LOST = "LOST"
    """The cluster answers, but has never heard of it: its head was restarted."""

    @property
    def ended(self) -> bool:
        """Whether nothing of this attempt can still run."""
        return self in (State.STOPPED, State.SUCCEEDED, State.FAILED, State.LOST)

    @property
    def label(self) -> str:
        """For people."""
        return "unknown (cluster gone)" if self is State.UNKNOWN else self.value.lower()


@dataclass(frozen=True)
class Attempt:
    """One submission of a run."""

    submission_id: str
    run_name: str
    attempt: int
    kind: str
    root: Path
    """The folder that travelled as working directory."""
    config: str
    """The config file, relative to `root`."""
    overrides: tuple[str, ...]
    storage_path: str
    """Folder of checkpoints and exports."""
    address: str
    """HTTP address of the cluster's job server."""
    state: State = State.SUBMITTING
    exit_code: int | None = None
    """What the driver really returned; none while it runs, or when it never started."""
    message: str | None = None
    submitted_at: str = ""
    updated_at: str = ""
    tracking_uri: str = ""
    """The MLflow server that shows the run from its submission on; empty when none was asked to."""


_COLUMNS = tuple(field.name for field in fields(Attempt))


class Ledger:
    """The attempts of one state folder, in a SQLite file that several processes may use at once.

    Args:
        file: the database; none takes `ledger.db` of `$STEERLINE_HOME`, else of `.steerline`. Created when missing.

    Raises:
        SubmitError: the file is no such database, or cannot be read or written; so does each method.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file if file is not None else home() / "ledger.db"
        with self._connection() as connection:
            keep_write_ahead_log(connection, _BUSY_S)
            connection.execute(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            if "tracking_uri" not in {name for _, name, *_ in connection.execute("PRAGMA table_info(attempts)")}:
                connection.execute(_ADD_TRACKING_URI)

    def add(self, attempt: Attempt) -> Attempt:
        """Write a new attempt down, stamped with the time.

        Raises:
            SubmitError: this attempt of the run exists already, so somebody else is submitting it right now.
        """
        stamped = replace(attempt, submitted_at=_now(), updated_at=_now())
        places = ", ".join("?" for _ in _COLUMNS)
        try:
            with self._connection() as connection:
                connection.execute(f"INSERT INTO attempts ({', '.join(_COLUMNS)}) VALUES ({places})", _row(stamped))  # noqa: S608
        except sqlite3.IntegrityError as error:
            raise SubmitError(
                "this attempt was submitted by another process at the same time",
                got=attempt.submission_id,
                fix=f"steerline status {attempt.run_name}",
            ) from error
        return stamped

    def update(
        self, submission_id: str, state: State, *, exit_code: int | None = None, message: str | None = None
    ) -> None:
        """Note where an attempt stands now."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE attempts SET state = ?, exit_code = ?, message = ?, updated_at = ? WHERE submission_id = ?",
                (state.value, exit_code, message, _now(), submission_id),
            )

    def forget(self, submission_id: str) -> None:
        """Remove an attempt that never reached a cluster."""
        with self._connection() as connection:
            connection.execute("DELETE FROM attempts WHERE submission_id = ?", (submission_id,))

    def attempts(self, run_name: str | None = None) -> list[Attempt]:
        """All attempts, or those of one run, oldest first."""
        query = f"SELECT {', '.join(_COLUMNS)} FROM attempts"  # noqa: S608
        with self._connection() as connection:
            if run_name is None:
                rows = connection.execute(f"{query} ORDER BY submitted_at, attempt").fetchall()
            else:
                rows = connection.execute(f"{query} WHERE run_name = ? ORDER BY attempt", (run_name,)).fetchall()
        return [_attempt(row) for row in rows]

    def find(self, reference: str) -> Attempt | None:
        """The latest attempt that a person means; none when nothing fits.

        Args:
            reference: a submission id, a run name, or the beginning of the names of exactly one run.

        Raises:
            SubmitError: more than one run fits.
        """
        everything = self.attempts()
        for attempt in everything:
            if attempt.submission_id == reference:
                return attempt
        names = sorted({attempt.run_name for attempt in everything})
        fitting = [reference] if reference in names else [name for name in names if name.startswith(reference)]
        if len(fitting) > 1:
            raise SubmitError(
                "more than one run fits this name",
                got=reference,
                expected=f"one of {', '.join(fitting)}",
                fix="type more of the name",
            )
        return self.attempts(fitting[0])[-1] if fitting else None

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=_BUSY_S)) as connection, connection:
                yield connection
        except sqlite3.IntegrityError:
            raise  # says something about the row
        except (sqlite3.DatabaseError, OSError) as error:
            raise SubmitError(
                "the ledger of jobs cannot be used",
                where=str(self.file),
                got=error,
                expected="a SQLite database on a disk with room",
                fix="make room, or move the file away; runs stay, and submitting their configs goes on with them",
            ) from error


def _row(attempt: Attempt) -> tuple[object, ...]:
    values = asdict(attempt)
    values |= {"root": str(attempt.root), "overrides": json.dumps(attempt.overrides), "state": attempt.state.value}
    return tuple(values.values())


def _attempt(row: Sequence[object]) -> Attempt:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["root"] = Path(str(values["root"]))
    values["overrides"] = tuple(json.loads(str(values["overrides"])))
    values["state"] = State(str(values["state"]))
    return Attempt(**values)  # type: ignore[arg-type]  # the columns are the fields


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
