"""A store in this process's memory, for runs that nobody needs to find again.

Threads may share it: each simulation has one owner, whoever goes through what others add to goes through a copy, and
a lock has one owner follow another, and keeps what is asked of the hosts apart from what they say about it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

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


@dataclass
class _Asked:
    """What is asked of the hosts."""

    place: int
    created: float
    number: int = 0
    until: int | None = None
    due: float | None = None


@dataclass
class _Kept:
    """Everything about one simulation."""

    record: SimulationRecord
    lease: Lease | None = None
    token: int = 0
    events: list[Event] = field(default_factory=list)
    calls: dict[tuple[int, str, int], Call] = field(default_factory=dict)
    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    controls: dict[str, Control] = field(default_factory=dict)
    applied: set[str] = field(default_factory=set)
    operations: list[Operation] = field(default_factory=list)
    asked: _Asked | None = None


class MemoryStore:
    """Keeps simulations in memory. See `Store`.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._experiments: dict[str, Mapping[str, Any]] = {}
        self._stopped: set[str] = set()
        self._asking = threading.Lock()

    def create(self, sim: str, spec: Mapping[str, Any], fingerprint: str) -> SimulationRecord:
        if sim not in self._kept:
            self._kept[sim] = _Kept(SimulationRecord(sim, fingerprint, spec, "created", "", 0, GENESIS))
        check_same(self._kept[sim].record, fingerprint)
        return self._kept[sim].record

    def find(self, sim: str) -> SimulationRecord | None:
        return self._kept[sim].record if sim in self._kept else None

    def list(self) -> Sequence[SimulationRecord]:
        return [self._kept[sim].record for sim in sorted(self._kept)]

    def acquire(self, sim: str, owner: str, ttl_s: float, *, steal: bool = False) -> Lease:
        kept, now = self._kept[sim], self._clock()
        with self._asking:
            if kept.lease is not None and not steal:
                check_takeover(sim, owner, kept.lease.owner, kept.lease.expires, now)
            kept.token += 1
            kept.lease = Lease(sim, owner, kept.token, now + ttl_s)
            return kept.lease

    def renew(self, lease: Lease, ttl_s: float) -> Lease:
        kept = self._owned(lease)
        kept.lease = replace(lease, expires=self._clock() + ttl_s)
        return kept.lease

    def release(self, lease: Lease) -> None:
        kept = self._kept.get(lease.sim)
        if kept is not None and kept.token == lease.token:
            kept.lease = None

    def append(
        self, lease: Lease, events: Sequence[Event], *, snapshot: Snapshot | None = None, applied: Sequence[str] = ()
    ) -> None:
        kept = self._owned(lease)
        check_follows(kept.record, events)
        kept.events += events
        if events:
            kept.record = replace(kept.record, seq=events[-1].seq, hash=events[-1].hash)
        if snapshot is not None:
            kept.snapshots[snapshot.tick] = snapshot
        kept.applied.update(applied)

    def events(
        self,
        sim: str,
        after: int = 0,
        most: int | None = None,
        *,
        kinds: Sequence[str] = (),
        agent: str | None = None,
    ) -> Iterator[Event]:
        found = (e for e in self._kept[sim].events[after:] if not kinds or e.kind in kinds)
        return islice((e for e in found if agent is None or e.agent == agent), most)

    def put_calls(self, lease: Lease, calls: Sequence[Call]) -> None:
        self._owned(lease).calls.update({(call.tick, call.agent, call.index): call for call in calls})

    def calls(self, sim: str, first_tick: int | None = None) -> Iterator[Call]:
        calls = self._kept[sim].calls
        return (calls[place] for place in sorted(calls) if first_tick is None or place[0] >= first_tick)

    def call_at(self, address: str) -> Call | None:
        calls = (call for kept in list(self._kept.values()) for call in list(kept.calls.values()))
        return next((call for call in calls if call.address == address), None)

    def snapshot(self, sim: str, most: int | None = None) -> Snapshot | None:
        snapshots = self._kept[sim].snapshots
        newest = max((tick for tick in list(snapshots) if most is None or tick <= most), default=None)
        return None if newest is None else snapshots[newest]

    def drop_snapshots(self, sim: str) -> None:
        self._kept[sim].snapshots.clear()

    def set_status(self, lease: Lease, status: str, reason: str) -> None:
        kept = self._owned(lease)
        kept.record = replace(kept.record, status=status, reason=reason)

    def post(self, sim: str, control: Control) -> bool:
        controls = self._kept[sim].controls
        if control.id in controls:
            return False
        controls[control.id] = control
        return True

    def controls(self, sim: str) -> Sequence[Control]:
        kept = self._kept[sim]
        return [control for control in list(kept.controls.values()) if control.id not in kept.applied]

    def operate(self, sim: str, kind: str, payload: Mapping[str, Any]) -> None:
        self._kept[sim].operations.append(Operation(self._clock(), kind, payload))

    def operations(self, sim: str) -> Sequence[Operation]:
        return list(self._kept[sim].operations)

    def enlist(self, sim: str) -> None:
        with self._asking:
            self._enlisted(sim)

    def want(self, sim: str, until: int | None = None) -> None:
        kept = self._kept[sim]
        with self._asking:
            asked = self._enlisted(sim)
            kept.applied.update(control.id for control in list(kept.controls.values()) if control.kind == "pause")
            asked.number, asked.until, asked.due = asked.number + 1, until, self._clock()

    def nudge(self, sim: str) -> None:
        kept = self._kept[sim]
        with self._asking:
            if kept.asked is not None and (kept.asked.due is not None or kept.record.status == "waiting"):
                kept.asked.number, kept.asked.due = kept.asked.number + 1, self._clock()

    def hosted(self, sim: str) -> Hosted | None:
        kept = self._kept.get(sim)
        if kept is None or kept.asked is None:
            return None
        asked, committed = kept.asked, self._last(sim, "tick.committed")
        ticks = 0 if committed is None else committed.tick + 1
        return Hosted(kept.record, asked.place, asked.created, ticks, asked.number, asked.until, asked.due)

    def hosted_page(self, most: int, before: int | None = None, statuses: Sequence[str] = ()) -> Sequence[Hosted]:
        all_ = [one for sim in list(self._kept) if (one := self.hosted(sim)) is not None]
        fit = [one for one in all_ if not statuses or one.record.status in statuses]
        older = [one for one in fit if before is None or one.place < before]
        return sorted(older, key=lambda one: -one.place)[:most]

    def summaries(self, sims: Sequence[str]) -> Sequence[Summary]:
        found = [one for sim in sims if (one := self.hosted(sim)) is not None]
        last = [self._last(one.record.sim, "metric.recorded") for one in found]
        return [
            Summary(one.record.sim, one.record.status, one.due, None if event is None else event.payload["values"])
            for one, event in zip(found, last, strict=True)
        ]

    def runnable(self, most: int, *, ended: bool = False) -> Sequence[str]:
        now = self._clock()
        due = [
            (kept.asked.due, kept.asked.place, sim)
            for sim, kept in list(self._kept.items())
            if kept.asked is not None and kept.asked.due is not None and kept.asked.due <= now
            if kept.lease is None or kept.lease.expires <= now
            if (kept.record.status in ("ended", "stopped")) == ended
        ]
        return [sim for _, _, sim in sorted(due)[:most]]

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
        kept = self._owned(lease)
        with self._asking:
            if pause is not None and (pause in kept.applied or pause not in kept.controls):
                return False
            kept.record = replace(kept.record, status=status, reason=reason)
            if pause is not None:
                kept.applied.add(pause)
            if kept.asked is not None and (pause is not None or kept.asked.number == served):
                kept.asked.due = None if pause is not None else again_at
        return True

    def postpone(self, lease: Lease, again_at: float | None) -> None:
        kept = self._owned(lease)
        if kept.asked is not None:
            kept.asked.due = again_at

    def put_experiment(self, name: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._experiments.setdefault(name, content)

    def experiment(self, name: str) -> Mapping[str, Any] | None:
        return self._experiments.get(name)

    def experiments(self, most: int, before: int | None = None) -> Sequence[tuple[int, Mapping[str, Any]]]:
        placed = [(place, content) for place, content in enumerate(self._experiments.values(), 1)]
        return [(place, content) for place, content in reversed(placed) if before is None or place < before][:most]

    def stop_experiment(self, name: str) -> None:
        self._stopped.add(name)

    def is_stopped(self, name: str) -> bool:
        return name in self._stopped

    def close(self) -> None:
        """Nothing is held."""

    def _last(self, sim: str, kind: str) -> Event | None:
        return next((event for event in reversed(self._kept[sim].events) if event.kind == kind), None)

    def _enlisted(self, sim: str) -> _Asked:
        kept = self._kept[sim]
        if kept.asked is None:
            place = 1 + sum(1 for other in list(self._kept.values()) if other.asked is not None)
            kept.asked = _Asked(place, self._clock())
        return kept.asked

    def _owned(self, lease: Lease) -> _Kept:
        kept = self._kept[lease.sim]
        check_lease(lease, kept.token)
        return kept
