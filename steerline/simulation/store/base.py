"""What a store is, and what it keeps.

The event log is the truth about a simulation's world. Beside it lie the journal of model calls, snapshots (a cache),
the controls that people post, and a log of operations (who ran it, when it paused and why), no part of the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from steerline.simulation.event import Event

ControlKind = Literal["pause", "stop", "message", "state", "agents", "steering", "interview", "survey", "answer"]


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


@dataclass(frozen=True, slots=True)
class Hosted:
    """A simulation that hosts play for whoever asks, and what was asked last."""

    record: SimulationRecord
    place: int
    """Rises with each simulation that hosts are given."""
    created: float
    """Seconds since 1970."""
    ticks: int
    """Ticks committed."""
    number: int
    """Of the last request to play it; each has a higher one."""
    until: int | None
    """Ticks to which it is to be played; none plays until it stands still by itself."""
    due: float | None
    """Seconds since 1970 from which it is to be played; none while nobody wants that."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a simulation of the hosts stands, in short."""

    sim: str
    status: str
    due: float | None
    """As in `Hosted`."""
    metrics: Mapping[str, float] | None
    """The scenario's last numbers; none before the first tick."""


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

    def events(
        self,
        sim: str,
        after: int = 0,
        most: int | None = None,
        *,
        kinds: Sequence[str] = (),
        agent: str | None = None,
    ) -> Iterator[Event]:
        """The events that follow number `after`, in order.

        Args:
            sim: the simulation.
            after: number of the last event that is left out; 0 leaves none out.
            most: of them.
            kinds: only those; none takes all.
            agent: only this one's; none takes all.
        """
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

    def enlist(self, sim: str) -> None:
        """Give a simulation to the hosts, who play it once somebody wants it; nothing if they have it."""
        ...

    def want(self, sim: str, until: int | None = None) -> None:
        """Ask the hosts to play a simulation, and take back every pause that has not come into effect.

        Args:
            sim: the simulation.
            until: ticks to which it is to be played; none plays until it stands still by itself.
        """
        ...

    def nudge(self, sim: str) -> None:
        """Have a simulation that is being played, or waits for a person, looked at now; others are left as they are."""
        ...

    def hosted(self, sim: str) -> Hosted | None:
        """A simulation that was given to the hosts; none if it was not."""
        ...

    def hosted_page(self, most: int, before: int | None = None, statuses: Sequence[str] = ()) -> Sequence[Hosted]:
        """Simulations that were given to the hosts, the newest first.

        Args:
            most: of them.
            before: only those whose place is lower.
            statuses: only those that stand so; none takes all.
        """
        ...

    def summaries(self, sims: Sequence[str]) -> Sequence[Summary]:
        """Of these simulations, those that were given to the hosts, in no order; read at once, however many they are.

        Args:
            sims: a few thousand at most.
        """
        ...

    def runnable(self, most: int, *, ended: bool = False) -> Sequence[str]:
        """Simulations that somebody wants played and that nobody plays, those first that have waited longest.

        Args:
            most: of them.
            ended: those that have ended since and have not been seen off, in place of those that can be played.
        """
        ...

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
        """Say that a run stands still and how, in one transaction with the end of the request that it served.

        Args:
            lease: the owner's.
            status: how it stands.
            reason: why.
            served: number of the request; if somebody has asked again since, that is not lost.
            pause: id of the control that asks for it, which ends every request before it.
            again_at: seconds since 1970 when it is to be looked at again.

        Returns:
            whether it does; not if that control has been taken back, and then nothing is changed.

        Raises:
            LeaseError: another owner has taken over.
        """
        ...

    def postpone(self, lease: Lease, again_at: float | None) -> None:
        """Have the owner's simulation looked at again at a time, in seconds since 1970, or once somebody asks.

        Raises:
            LeaseError: another owner has taken over.
        """
        ...

    def put_experiment(self, name: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep what an experiment is made of, unless there is one of that name; what is kept under the name."""
        ...

    def experiment(self, name: str) -> Mapping[str, Any] | None:
        """What an experiment is made of."""
        ...

    def experiments(self, most: int, before: int | None = None) -> Sequence[tuple[int, Mapping[str, Any]]]:
        """Experiments with their places, which rise, the newest first.

        Args:
            most: of them.
            before: only those whose place is lower.
        """
        ...

    def stop_experiment(self, name: str) -> None:
        """Note that no more of an experiment is to be made, and none of it played."""
        ...

    def is_stopped(self, name: str) -> bool:
        """Whether that is noted of an experiment."""
        ...

    def close(self) -> None:
        """Give back what the store holds."""
        ...
