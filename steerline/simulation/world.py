"""Everything that changes in a simulation, as one value: a tick makes a new one and leaves the old one as it was."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from steerline.config.simulation_agents import AgentSpec
from steerline.simulation.message import Message
from steerline.simulation.scenario import Seat, State


@dataclass(frozen=True, slots=True)
class Flight:
    """A message on its way to one agent."""

    due: int
    """First tick in which it may arrive."""
    recipient: str
    message: Message


@dataclass(slots=True)
class World:
    """A simulation between two ticks. Its values are replaced, never changed in place, so that a copy is cheap."""

    tick: int
    """Ticks committed; the next one has this number."""
    state: State
    """The scenario's."""
    topology: Any
    """The topology's."""
    agents: dict[str, AgentSpec]
    """The living, by id in order; profiles as they are now."""
    inbox: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    """What has been delivered and not been read."""
    flights: tuple[Flight, ...] = ()
    """What has been sent and not been delivered."""
    counters: dict[str, int] = field(default_factory=dict)
    """What interceptors and quotas count."""
    ended: str | None = None
    """Why the simulation is over."""

    def copy(self) -> World:
        """A world that can go on without touching this one."""
        return replace(self, agents=dict(self.agents), inbox=dict(self.inbox), counters=dict(self.counters))


def seat_of(agent: AgentSpec) -> Seat:
    """An agent as its scenario knows it."""
    return Seat(agent.id, agent.profile)
