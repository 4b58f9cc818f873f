"""What every store refuses, in the same words."""

from __future__ import annotations

from collections.abc import Sequence

from steerline.errors import LeaseError, SimulationError
from steerline.simulation.event import Event
from steerline.simulation.store.base import Lease, SimulationRecord


def check_same(record: SimulationRecord, fingerprint: str) -> None:
    """Refuse another spec under the name of an existing simulation."""
    if record.fingerprint != fingerprint:
        raise SimulationError(
            f"the store holds another simulation called {record.sim}",
            got=f"fingerprint {fingerprint[:10]}",
            expected=record.fingerprint[:10],
            fix="give the simulation another name, or leave the name to its spec",
        )


def check_takeover(sim: str, owner: str, holder: str, expires: float, now: float) -> None:
    """Refuse a second owner while the first one's lease runs."""
    if holder != owner and expires > now:
        raise LeaseError(
            f"the simulation {sim} is being run by another process",
            got=f"owner {holder}, for {expires - now:.0f} s more unless it renews",
            expected="no owner, or one whose lease has run out",
            fix="stop that process, or wait",
        )


def check_lease(lease: Lease, token: int) -> None:
    """Refuse a write of an owner that was replaced."""
    if lease.token != token:
        raise LeaseError(
            f"another process has taken over the simulation {lease.sim}",
            got=f"token {lease.token} of {lease.owner}",
            expected=f"token {token}",
            fix="let the new owner go on; nothing of this write was kept",
        )


def check_follows(record: SimulationRecord, events: Sequence[Event]) -> None:
    """Refuse events that do not follow the last one, or each other."""
    seq, prev_hash = record.seq, record.hash
    for event in events:
        if event.seq != seq + 1 or event.prev_hash != prev_hash:
            raise SimulationError(
                "events do not follow the log",
                where=f"{record.sim}, event {event.seq}",
                got=f"after {event.prev_hash[:10]}",
                expected=f"event {seq + 1} after {prev_hash[:10]}",
            )
        seq, prev_hash = event.seq, event.hash
