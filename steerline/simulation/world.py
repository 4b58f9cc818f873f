"""Everything that changes in a simulation, as one value: a tick makes a new one and leaves the old one as it was."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from steerline.config.simulation_agents import AgentSpec
from steerline.simulation.canonical import canonical, plain
from steerline.simulation.memory import Record
from steerline.simulation.message import Message
from steerline.simulation.scenario import Seat, State


@dataclass(frozen=True, slots=True)
class Flight:
    """A message on its way to one agent."""

    due: int
    """First tick in which it may arrive."""
    recipient: str
    message: Message
    sent: int
    """Number of the event that sent it."""


@dataclass(slots=True)
class World:
    """A simulation between two ticks. Its values are replaced, never changed in place, so that a copy is cheap."""

    tick: int
    """Ticks committed; the next one has this number."""
    seq: int
    """Number of the last event."""
    state: State
    """The scenario's."""
    topology: Any
    """The topology's."""
    agents: dict[str, AgentSpec]
    """The living, by id in order; profiles and brains as they are now."""
    inbox: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    """What has been delivered and not been read."""
    flights: tuple[Flight, ...] = ()
    """What has been sent and not been delivered."""
    memories: dict[str, tuple[Record, ...]] = field(default_factory=dict)
    """What each agent remembers, oldest first."""
    scores: dict[str, float] = field(default_factory=dict)
    """Feedback since the last comparison of strategies."""
    counters: dict[str, int] = field(default_factory=dict)
    """What interceptors and quotas count."""
    ended: str | None = None
    """Why the simulation is over."""

    def copy(self) -> World:
        """A world that can go on without touching this one."""
        return replace(
            self,
            agents=dict(self.agents),
            inbox=dict(self.inbox),
            memories=dict(self.memories),
            scores=dict(self.scores),
            counters=dict(self.counters),
        )

    def pack(self) -> bytes:
        """As bytes, for a snapshot."""
        fields = {
            **{
                name: getattr(self, name)
                for name in ("tick", "seq", "state", "topology", "scores", "counters", "ended")
            },
            "agents": [agent.model_dump(mode="json", exclude_defaults=True) for agent in self.agents.values()],
            "inbox": {agent: [message.to_json() for message in inbox] for agent, inbox in self.inbox.items()},
            "flights": [[f.due, f.recipient, f.message.to_json(), f.sent] for f in self.flights],
            "memories": {agent: [asdict(record) for record in records] for agent, records in self.memories.items()},
        }
        return zlib.compress(canonical(fields), level=1)

    @classmethod
    def unpack(cls, content: bytes) -> World:
        """What `pack` gave."""
        fields = plain(zlib.decompress(content))
        agents = [AgentSpec.model_validate(agent) for agent in fields["agents"]]
        inbox = {agent: tuple(map(Message.from_json, inbox)) for agent, inbox in fields["inbox"].items()}
        memories = {agent: tuple(Record(**r) for r in records) for agent, records in fields["memories"].items()}
        flights = tuple(
            Flight(due, to, Message.from_json(message), sent) for due, to, message, sent in fields["flights"]
        )
        return cls(
            **{**fields, "agents": {a.id: a for a in agents}, "inbox": inbox, "memories": memories, "flights": flights}
        )


def seat_of(agent: AgentSpec) -> Seat:
    """An agent as its scenario knows it."""
    return Seat(agent.id, agent.profile)
