"""What the stores on databases share: the tables and the statements. Only the ways to connect differ."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from steerline.errors import SimulationError
from steerline.simulation.canonical import canonical, plain
from steerline.simulation.event import GENESIS, Event
from steerline.simulation.store.base import (
    Call,
    Control,
    Hosted,
    Lease,
    Operation,
    SimulationRecord,
    Snapshot,
    Summary,
)
from steerline.simulation.store.checks import check_follows, check_lease, check_same, check_takeover

TABLES = (
    """CREATE TABLE IF NOT EXISTS simulations (sim TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, spec TEXT NOT NULL,
    status TEXT NOT NULL, reason TEXT NOT NULL, seq BIGINT NOT NULL, hash TEXT NOT NULL, token BIGINT NOT NULL,
    owner TEXT, expires DOUBLE PRECISION NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS events (sim TEXT NOT NULL, seq BIGINT NOT NULL, tick BIGINT NOT NULL,
    phase TEXT NOT NULL, kind TEXT NOT NULL, agent TEXT, payload TEXT NOT NULL, cause BIGINT, prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL, wall_time DOUBLE PRECISION NOT NULL, PRIMARY KEY (sim, seq))""",
    """CREATE TABLE IF NOT EXISTS calls (sim TEXT NOT NULL, tick BIGINT NOT NULL, agent TEXT NOT NULL,
    place BIGINT NOT NULL, address TEXT NOT NULL, request TEXT NOT NULL, result TEXT NOT NULL,
    PRIMARY KEY (sim, tick, agent, place))""",
    "CREATE INDEX IF NOT EXISTS calls_by_address ON calls (address)",
    """CREATE TABLE IF NOT EXISTS snapshots (sim TEXT NOT NULL, tick BIGINT NOT NULL, seq BIGINT NOT NULL,
    hash TEXT NOT NULL, world {bytes} NOT NULL, PRIMARY KEY (sim, tick))""",
    """CREATE TABLE IF NOT EXISTS controls (number {serial}, sim TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    payload TEXT NOT NULL, applied BIGINT NOT NULL, UNIQUE (sim, id))""",
    """CREATE TABLE IF NOT EXISTS operations (number {serial}, sim TEXT NOT NULL, time DOUBLE PRECISION NOT NULL,
    kind TEXT NOT NULL, payload TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS operations_by_sim ON operations (sim, number)",
    """CREATE TABLE IF NOT EXISTS hosted (place {serial}, sim TEXT NOT NULL UNIQUE, created DOUBLE PRECISION NOT NULL,
    number BIGINT NOT NULL, until BIGINT, due DOUBLE PRECISION)""",
    "CREATE INDEX IF NOT EXISTS hosted_by_due ON hosted (due)",
    "CREATE TABLE IF NOT EXISTS experiments (place {serial}, name TEXT NOT NULL UNIQUE, content TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS stopped_experiments (name TEXT PRIMARY KEY)",
)
_RECORD = "sim, fingerprint, spec, status, reason, seq, hash"
_EVENT = "seq, tick, phase, kind, agent, payload, cause, prev_hash, hash, wall_time"
_CALL = "tick, agent, place, address, request, result"
_HOSTED = f"""{", ".join(f"s.{name}" for name in _RECORD.split(", "))}, h.place, h.created,
    (SELECT e.tick FROM events e WHERE e.sim = s.sim AND e.kind = 'tick.committed' ORDER BY e.seq DESC LIMIT 1),
    h.number, h.until, h.due FROM hosted h JOIN simulations s ON s.sim = h.sim"""
_PAGE = 1000

Rows = list[tuple[Any, ...]]


class SqlStore(ABC):
    """Keeps simulations in a database. See `Store`.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """Everything inside happens, or nothing; inside, no other process writes to the same simulation."""

    @abstractmethod
    def _query(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        """Run a statement with `?` for values and return its rows."""

    @abstractmethod
    def _many(self, statement: str, values: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row of values."""

    @abstractmethod
    def close(self) -> None:
        """Give back the connection."""

    lock_row = ""
    """What a SELECT adds to keep others from writing to the row."""

    def create(self, sim: str, spec: Mapping[str, Any], fingerprint: str) -> SimulationRecord:
        with self._transaction():
            self._query(
                "INSERT INTO simulations VALUES (?, ?, ?, 'created', '', 0, ?, 0, NULL, 0) ON CONFLICT DO NOTHING",
                (sim, fingerprint, _text(spec), GENESIS),
            )
            record = self._record(sim)
        check_same(record, fingerprint)
        return record

    def find(self, sim: str) -> SimulationRecord | None:
        rows = self._query(f"SELECT {_RECORD} FROM simulations WHERE sim = ?", (sim,))
        return _record_of(rows[0]) if rows else None

    def list(self) -> Sequence[SimulationRecord]:
        return [_record_of(row) for row in self._query(f"SELECT {_RECORD} FROM simulations ORDER BY sim")]

    def acquire(self, sim: str, owner: str, ttl_s: float, *, steal: bool = False) -> Lease:
        now = self._clock()
        with self._transaction():
            statement = f"SELECT token, owner, expires FROM simulations WHERE sim = ?{self.lock_row}"
            token, holder, expires = self._query(statement, (sim,))[0]
            if holder is not None and not steal:
                check_takeover(sim, owner, holder, expires, now)
            lease = Lease(sim, owner, int(token) + 1, now + ttl_s)
            self._query(
                "UPDATE simulations SET token = ?, owner = ?, expires = ? WHERE sim = ?",
                (lease.token, owner, lease.expires, sim),
            )
        return lease

    def renew(self, lease: Lease, ttl_s: float) -> Lease:
        renewed = replace(lease, expires=self._clock() + ttl_s)
        with self._transaction():
            self._check(lease)
            self._query("UPDATE simulations SET expires = ? WHERE sim = ?", (renewed.expires, lease.sim))
        return renewed

    def release(self, lease: Lease) -> None:
        with self._transaction():
            self._query("UPDATE simulations SET owner = NULL WHERE sim = ? AND token = ?", (lease.sim, lease.token))

    def append(
        self, lease: Lease, events: Sequence[Event], *, snapshot: Snapshot | None = None, applied: Sequence[str] = ()
    ) -> None:
        sim = lease.sim
        with self._transaction():
            self._check(lease)
            check_follows(self._record(sim), events)
            self._many(
                f"INSERT INTO events (sim, {_EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(sim, *_event_row(event)) for event in events],
            )
            if events:
                last = events[-1]
                self._query("UPDATE simulations SET seq = ?, hash = ? WHERE sim = ?", (last.seq, last.hash, sim))
            if snapshot is not None:
                self._query("DELETE FROM snapshots WHERE sim = ? AND tick = ?", (sim, snapshot.tick))
                self._query(
                    "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?)",
                    (sim, snapshot.tick, snapshot.seq, snapshot.hash, snapshot.world),
                )
            self._many("UPDATE controls SET applied = 1 WHERE sim = ? AND id = ?", [(sim, name) for name in applied])

    def events(
        self,
        sim: str,
        after: int = 0,
        most: int | None = None,
        *,
        kinds: Sequence[str] = (),
        agent: str | None = None,
    ) -> Iterator[Event]:
        wanted = f" AND kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
        wanted += "" if agent is None else " AND agent = ?"
        statement = f"SELECT {_EVENT} FROM events WHERE sim = ? AND seq > ?{wanted} ORDER BY seq LIMIT ?"
        values = (*kinds, *(() if agent is None else (agent,)))
        left = 2**62 if most is None else most
        while rows := self._query(statement, (sim, after, *values, min(left, _PAGE))):
            for row in rows:
                yield _event_of(row)
            left -= len(rows)
            after = rows[-1][0]

    def put_calls(self, lease: Lease, calls: Sequence[Call]) -> None:
        sim = lease.sim
        with self._transaction():
            self._check(lease)
            self._many(
                "DELETE FROM calls WHERE sim = ? AND tick = ? AND agent = ? AND place = ?",
                [(sim, call.tick, call.agent, call.index) for call in calls],
            )
            self._many(
                f"INSERT INTO calls (sim, {_CALL}) VALUES (?, ?, ?, ?, ?, ?, ?)", [(sim, *_call_row(c)) for c in calls]
            )

    def calls(self, sim: str, first_tick: int | None = None) -> Iterator[Call]:
        statement = f"SELECT {_CALL} FROM calls WHERE sim = ? AND tick >= ? ORDER BY tick, agent, place"
        # Sorted again by code points, whatever the database's collation.
        rows = self._query(statement, (sim, -(2**31) if first_tick is None else first_tick))
        return (_call_of(row) for row in sorted(rows, key=lambda row: row[:3]))

    def call_at(self, address: str) -> Call | None:
        rows = self._query(f"SELECT {_CALL} FROM calls WHERE address = ? ORDER BY sim, tick LIMIT 1", (address,))
        return _call_of(rows[0]) if rows else None

    def snapshot(self, sim: str, most: int | None = None) -> Snapshot | None:
        where = "WHERE sim = ? AND tick <= ? ORDER BY tick DESC LIMIT 1"
        rows = self._query(
            f"SELECT tick, seq, hash, world FROM snapshots {where}", (sim, 2**31 if most is None else most)
        )
        return next((Snapshot(tick, seq, hash_, bytes(world)) for tick, seq, hash_, world in rows), None)

    def drop_snapshots(self, sim: str) -> None:
        with self._transaction():
            self._query("DELETE FROM snapshots WHERE sim = ?", (sim,))

    def set_status(self, lease: Lease, status: str, reason: str) -> None:
        with self._transaction():
            self._check(lease)
            self._query("UPDATE simulations SET status = ?, reason = ? WHERE sim = ?", (status, reason, lease.sim))

    def post(self, sim: str, control: Control) -> bool:
        with self._transaction():
            rows = self._query(
                "INSERT INTO controls (sim, id, kind, payload, applied) VALUES (?, ?, ?, ?, 0)"
                " ON CONFLICT DO NOTHING RETURNING id",
                (sim, control.id, control.kind, _text(control.payload)),
            )
        return bool(rows)

    def controls(self, sim: str) -> Sequence[Control]:
        statement = "SELECT id, kind, payload FROM controls WHERE sim = ? AND applied = 0 ORDER BY number"
        return [Control(name, kind, json.loads(payload)) for name, kind, payload in self._query(statement, (sim,))]

    def operate(self, sim: str, kind: str, payload: Mapping[str, Any]) -> None:
        with self._transaction():
            statement = "INSERT INTO operations (sim, time, kind, payload) VALUES (?, ?, ?, ?)"
            self._query(statement, (sim, self._clock(), kind, _text(payload)))

    def operations(self, sim: str) -> Sequence[Operation]:
        statement = "SELECT time, kind, payload FROM operations WHERE sim = ? ORDER BY number"
        return [Operation(time_, kind, json.loads(payload)) for time_, kind, payload in self._query(statement, (sim,))]

    def enlist(self, sim: str) -> None:
        with self._transaction():
            self._enlist(sim)

    def want(self, sim: str, until: int | None = None) -> None:
        with self._transaction():
            self._query("UPDATE controls SET applied = 1 WHERE sim = ? AND kind = 'pause' AND applied = 0", (sim,))
            self._enlist(sim)
            statement = "UPDATE hosted SET number = number + 1, until = ?, due = ? WHERE sim = ?"
            self._query(statement, (until, self._clock(), sim))

    def nudge(self, sim: str) -> None:
        with self._transaction():
            self._query(
                "UPDATE hosted SET number = number + 1, due = ? WHERE sim = ? AND (due IS NOT NULL OR EXISTS "
                "(SELECT 1 FROM simulations s WHERE s.sim = hosted.sim AND s.status = 'waiting'))",
                (self._clock(), sim),
            )

    def hosted(self, sim: str) -> Hosted | None:
        rows = self._query(f"SELECT {_HOSTED} WHERE h.sim = ?", (sim,))
        return _hosted_of(rows[0]) if rows else None

    def hosted_page(self, most: int, before: int | None = None, statuses: Sequence[str] = ()) -> Sequence[Hosted]:
        wanted = f" AND s.status IN ({', '.join('?' * len(statuses))})" if statuses else ""
        statement = f"SELECT {_HOSTED} WHERE h.place < ?{wanted} ORDER BY h.place DESC LIMIT ?"
        rows = self._query(statement, (2**62 if before is None else before, *statuses, most))
        return [_hosted_of(row) for row in rows]

    def summaries(self, sims: Sequence[str]) -> Sequence[Summary]:
        if not sims:
            return []
        rows = self._query(
            "SELECT s.sim, s.status, h.due, (SELECT e.payload FROM events e WHERE e.sim = s.sim "
            "AND e.kind = 'metric.recorded' ORDER BY e.seq DESC LIMIT 1) "
            f"FROM hosted h JOIN simulations s ON s.sim = h.sim WHERE h.sim IN ({', '.join('?' * len(sims))})",
            sims,
        )
        return [
            Summary(sim, status, due, None if payload is None else json.loads(payload)["values"])
            for sim, status, due, payload in rows
        ]

    def runnable(self, most: int, *, ended: bool = False) -> Sequence[str]:
        now = self._clock()
        rows = self._query(
            "SELECT h.sim FROM hosted h JOIN simulations s ON s.sim = h.sim WHERE h.due <= ? "
            f"AND s.status {'IN' if ended else 'NOT IN'} ('ended', 'stopped') "
            "AND (s.owner IS NULL OR s.expires <= ?) ORDER BY h.due, h.place LIMIT ?",
            (now, now, most),
        )
        return [sim for (sim,) in rows]

    def stand_still(
        self,
        lease: Lease,
        status: str,
        reason: str,
        *,
        served: int = 0,
        pause: str | None = None,
        again_at: float | None = None,
    ) -> bool:
        sim = lease.sim
        with self._transaction():
            self._check(lease)
            if pause is not None:
                taken = "UPDATE controls SET applied = 1 WHERE sim = ? AND id = ? AND applied = 0 RETURNING number"
                if not self._query(taken, (sim, pause)):
                    return False
            self._query("UPDATE simulations SET status = ?, reason = ? WHERE sim = ?", (status, reason, sim))
            if pause is not None:
                self._query("UPDATE hosted SET due = NULL WHERE sim = ?", (sim,))
            else:
                self._query("UPDATE hosted SET due = ? WHERE sim = ? AND number = ?", (again_at, sim, served))
        return True

    def postpone(self, lease: Lease, again_at: float | None) -> None:
        with self._transaction():
            self._check(lease)
            self._query("UPDATE hosted SET due = ? WHERE sim = ?", (again_at, lease.sim))

    def put_experiment(self, name: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._transaction():
            statement = "INSERT INTO experiments (name, content) VALUES (?, ?) ON CONFLICT DO NOTHING"
            self._query(statement, (name, _text(content)))
            kept = self.experiment(name)
        assert kept is not None
        return kept

    def experiment(self, name: str) -> Mapping[str, Any] | None:
        rows = self._query("SELECT content FROM experiments WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def experiments(self, most: int, before: int | None = None) -> Sequence[tuple[int, Mapping[str, Any]]]:
        statement = "SELECT place, content FROM experiments WHERE place < ? ORDER BY place DESC LIMIT ?"
        rows = self._query(statement, (2**62 if before is None else before, most))
        return [(place, json.loads(content)) for place, content in rows]

    def stop_experiment(self, name: str) -> None:
        with self._transaction():
            self._query("INSERT INTO stopped_experiments (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))

    def is_stopped(self, name: str) -> bool:
        return bool(self._query("SELECT name FROM stopped_experiments WHERE name = ?", (name,)))

    def _enlist(self, sim: str) -> None:
        self._query(
            "INSERT INTO hosted (sim, created, number, until, due) VALUES (?, ?, 0, NULL, NULL) ON CONFLICT DO NOTHING",
            (sim, self._clock()),
        )

    def _record(self, sim: str) -> SimulationRecord:
        record = self.find(sim)
        if record is None:
            raise SimulationError(f"the store holds no simulation called {sim}")
        return record

    def _check(self, lease: Lease) -> None:
        rows = self._query(f"SELECT token FROM simulations WHERE sim = ?{self.lock_row}", (lease.sim,))
        check_lease(lease, int(rows[0][0]))


def _text(value: Any) -> str:
    return canonical(value).decode()


def _record_of(row: tuple[Any, ...]) -> SimulationRecord:
    sim, fingerprint, spec, *rest = row
    return SimulationRecord(sim, fingerprint, json.loads(spec), *rest)


def _hosted_of(row: tuple[Any, ...]) -> Hosted:
    *record, place, created, tick, number, until, due = row
    return Hosted(_record_of(tuple(record)), place, created, 0 if tick is None else tick + 1, number, until, due)


def _event_of(row: tuple[Any, ...]) -> Event:
    seq, tick, phase, kind, agent, payload, cause, prev_hash, hash_, wall_time = row
    return Event(seq, tick, phase, kind, agent, plain(payload.encode()), cause, prev_hash, hash_, wall_time)


def _event_row(event: Event) -> tuple[Any, ...]:
    e = event
    payload = _text(e.payload)
    return (e.seq, e.tick, e.phase, e.kind, e.agent, payload, e.cause, e.prev_hash, e.hash, e.wall_time)


def _call_row(call: Call) -> tuple[Any, ...]:
    return (call.tick, call.agent, call.index, call.address, _text(call.request), _text(call.result))


def _call_of(row: tuple[Any, ...]) -> Call:
    tick, agent, place, address, request, result = row
    return Call(tick, agent, place, address, json.loads(request), json.loads(result))
