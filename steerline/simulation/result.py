"""What a run of a simulation gives back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from steerline.config.simulation import SimulationSpec
from steerline.simulation.event import GENESIS, Event
from steerline.simulation.scenario import State

Status = Literal["ended", "paused", "waiting", "stopped"]


@dataclass(frozen=True, repr=False)
class Result:
    """A run, from its first tick to where it stands."""

    spec: SimulationSpec
    sim: str
    """Name of the simulation in its store."""
    status: Status
    reason: str
    """Why it ended or paused."""
    tick: int
    """Ticks committed."""
    state: State
    """The world at its end."""
    outcome: Mapping[str, Any]
    """The scenario's own result."""
    metrics: tuple[Mapping[str, float], ...]
    """The scenario's numbers after each tick."""
    events: tuple[Event, ...]
    """The whole history."""

    def __repr__(self) -> str:
        # Short: asyncio spells out what a task gave back when it takes its signal handler off.
        return f"Result({self.sim!r}, {self.status!r}, tick={self.tick}, events={len(self.events)})"

    @property
    def hash(self) -> str:
        """Hash of the last event: equal hashes are equal histories."""
        return self.events[-1].hash if self.events else GENESIS

    def series(self, name: str) -> list[float]:
        """One of the metrics over the ticks [T]."""
        return [values[name] for values in self.metrics]

    def of_kind(self, *kinds: str) -> Iterator[Event]:
        """The events of some kinds, in order."""
        return (event for event in self.events if event.kind in kinds)
