"""The history of a simulation: events in a chain of hashes.

An event says what happened in the world and nothing else: its hash covers number, tick, phase, kind, agent, payload and
cause, and the hash before it. Wall time stands beside it, outside the hash; timings, retries, pauses and leases go to
the log of operations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from steerline.simulation.canonical import canonical

Phase = Literal["start", "deliver", "observe", "decide", "route", "resolve", "feedback", "adjust", "metrics", "commit"]

EventKind = Literal[
    "sim.created",
    "sim.ended",
    "tick.started",
    "tick.committed",
    "action.taken",
    "action.invalid",
    "text.neutralised",
    "msg.sent",
    "msg.blocked",
    "msg.changed",
    "msg.delivered",
    "env.changed",
    "feedback.given",
    "agent.adjusted",
    "agent.spawned",
    "agent.retired",
    "spawn.refused",
    "human.requested",
    "human.answered",
    "control.applied",
    "control.refused",
    "interview.answered",
    "metric.recorded",
]

GENESIS = "0" * 64
"""What stands before the first event."""


@dataclass(frozen=True, slots=True)
class EventDraft:
    """What happened, before it has its place in the chain."""

    phase: Phase
    kind: EventKind
    payload: dict[str, Any]
    """Plain data."""
    agent: str | None = None
    cause: int | None = None
    """Number of the event that caused it."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, at its place in the chain."""

    seq: int
    """From 1, without gaps."""
    tick: int
    phase: Phase
    kind: EventKind
    agent: str | None
    payload: dict[str, Any]
    cause: int | None
    prev_hash: str
    hash: str
    wall_time: float
    """Seconds since 1970; not part of the hash."""


def seal(drafts: Iterable[EventDraft], tick: int, seq: int, prev_hash: str, wall_time: float) -> Iterator[Event]:
    """Give events their place in the chain, after event `seq` whose hash is `prev_hash`."""
    for draft in drafts:
        seq += 1
        content = _hash(seq, tick, draft.phase, draft.kind, draft.agent, draft.payload, draft.cause, prev_hash)
        yield Event(
            seq, tick, draft.phase, draft.kind, draft.agent, draft.payload, draft.cause, prev_hash, content, wall_time
        )
        prev_hash = content


def first_fault(events: Iterable[Event], seq: int = 0, prev_hash: str = GENESIS) -> str | None:
    """Check a chain that follows event `seq`; what is wrong and at which event, or none."""
    for event in events:
        if event.seq != seq + 1:
            return f"event {seq + 1} is missing: event {event.seq} follows event {seq}"
        if event.prev_hash != prev_hash:
            return f"event {event.seq} does not follow from the event before it"
        e = event
        if e.hash != _hash(e.seq, e.tick, e.phase, e.kind, e.agent, e.payload, e.cause, e.prev_hash):
            return f"event {event.seq} ({event.kind}, tick {event.tick}) was altered"
        seq, prev_hash = event.seq, event.hash
    return None


def _hash(*fields: Any) -> str:
    return hashlib.blake2b(canonical(fields), digest_size=32).hexdigest()
