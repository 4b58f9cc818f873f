"""What a store is, and what it keeps.

The event log is the truth about a simulation's world. Beside it lie the journal of model calls, snapshots (a cache),
the controls that people post, and a log of operations (who ran it, when it paused and why), no part of the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from steerline.simulation.event import Event

ControlKind = Literal["pause", "stop", "message", "state", "agents", "interview", "survey", "answer"]


@dataclass(frozen=True, slots=True)
class SimulationRecord:
    """A simulation as its store lists it."""

    sim: str
    fingerprint: str
    spec: Mapping[str, Any]
    """The resolved spec, as plain data."""
    status: str
    reason: str
    seq: int
    """Number of the last event; 0 before the first."""
    hash: str
    """Hash of the last event."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a simulation, for a while. Each new owner's token is higher than all before it."""

    sim: str
    owner: str
    token: int
    expires: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Call:
    """A model call that was answered."""

    tick: int
    agent: str
    index: int
    """Number of the call among the agent's calls of the tick."""
    address: str
    """Content address of the request."""
    request: Mapping[str, Any]
    """The canonical request."""
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A world after a tick, so that a resume need not begin at the beginning."""

    tick: int
    """Ticks committed."""
    seq: int
    """Number of the last event in it."""
    hash: str
    """Hash of that event."""
    world: bytes


@dataclass(frozen=True, slots=True)
class Control:
    """What somebody outside wants of a simulation. Its id makes posting it twice the same as once."""

    id: str
    kind: ControlKind
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that happened to a run and not in its world."""

    time: float
    kind: str
    payload: Mapping[str, Any]


class Store(Protocol):
    """Keeps simulations. Every write of an owner carries its lease and is refused once another owner has taken over."""

    def create(self, sim: str, spec: Mapping[str, Any], fingerprint: str) -> SimulationRecord:
        """The simulation of that name, made if there is none.

        Raises:
            SimulationError: there is one with another fingerprint.
        """
        ...

    def find(self, sim: str) -> SimulationRecord | None:
        """The simulation of that name."""
        ...

    def list(self) -> Sequence[SimulationRecord]:
        """All simulations, in order of their names."""
        ...

    def acquire(self, sim: str, owner: str, ttl_s: float, *, steal: bool = False) -> Lease:
        """Become the owner.

        Args:
            sim: the simulation.
            owner: who.
            ttl_s: seconds until somebody else may take over without `steal`.
            steal: take over from an owner whose lease has not run out.

        Raises:
            LeaseError: another owner's lease has not run out.
        """
        ...

    def renew(self, lease: Lease, ttl_s: float) -> Lease:
        """The same lease, for longer.

        Raises:
            LeaseError: another owner has taken over.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Let others become the owner; nothing if another one has already."""
        ...

    def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        *,
        snapshot: Snapshot | None = None,
        applied: Sequence[str] = (),
    ) -> None:
        """Add events, in one transaction.

        Args:
            lease: the owner's.
            events: they follow the last event.
            snapshot: the world after them.
            applied: ids of the controls that have had their effect.

        Raises:
            LeaseError: another owner has taken over.
            SimulationError: they do not follow the last event.
        """
        ...

    def events(self, sim: str, after: int = 0) -> Iterator[Event]:
        """The events that follow number `after`, in order."""
        ...

    def put_calls(self, lease: Lease, calls: Sequence[Call]) -> None:
        """Add calls to the journal; one at the same place is replaced.

        Raises:
            LeaseError: another owner has taken over.
        """
        ...

    def calls(self, sim: str, first_tick: int | None = None) -> Iterator[Call]:
        """The journal from a tick on, in order of tick, agent and index."""
        ...

    def call_at(self, address: str) -> Call | None:
        """Any simulation's call with this content address."""
        ...

    def snapshot(self, sim: str, most: int | None = None) -> Snapshot | None:
        """The newest snapshot with at most `most` ticks."""
        ...

    def drop_snapshots(self, sim: str) -> None:
        """Forget all snapshots; the log holds everything."""
        ...

    def set_status(self, lease: Lease, status: str, reason: str) -> None:
        """Say how the run stands.

        Raises:
            LeaseError: another owner has taken over.
        """
        ...

    def post(self, sim: str, control: Control) -> bool:
        """Ask for something; whether it was new."""
        ...

    def controls(self, sim: str) -> Sequence[Control]:
        """What was asked for and has had no effect yet, in order of posting."""
        ...

    def operate(self, sim: str, kind: str, payload: Mapping[str, Any]) -> None:
        """Add to the log of operations."""
        ...

    def operations(self, sim: str) -> Sequence[Operation]:
        """The log of operations, in order."""
        ...

    def close(self) -> None:
        """Give back what the store holds."""
        ...
