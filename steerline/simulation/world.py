"""Everything that changes in a simulation, as one value: a tick makes a new one and leaves the old one as it was."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from steerline.config.simulation_agents import AgentSpec
from steerline.simulation.canonical import canonical, plain
from steerline.simulation.memory import Record
from steerline.simulation.message import Message
from steerline.simulation.scenario import Seat, State


@dataclass(frozen=True, slots=True)
class Flight:
    """A message on its way."""

    id: str
    """The message's."""
    sent: int
    """Number of the event that sent it."""
    copies: Mapping[str, Message]
    """By recipient, in the order in which they hear it. All that nobody changed are one and the same."""
    due: Mapping[str, int]
    """By recipient, the first tick in which its copy may arrive."""

    def without(self, recipients: Collection[str]) -> Flight:
        """The flight to the others."""
        there = set(recipients)
        return replace(self, copies={to: copy for to, copy in self.copies.items() if to not in there})


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
        """As bytes, for a snapshot. A message stands there once, however many have it or are to have it."""
        messages = _Messages()
        fields = {
            **{
                name: getattr(self, name)
                for name in ("tick", "seq", "state", "topology", "scores", "counters", "ended")
            },
            "agents": [agent.model_dump(mode="json", exclude_defaults=True) for agent in self.agents.values()],
            "inbox": {agent: [messages.place(message) for message in inbox] for agent, inbox in self.inbox.items()},
            "flights": [
                [f.id, f.sent, [[to, f.due[to], messages.place(copy)] for to, copy in f.copies.items()]]
                for f in self.flights
            ],
            "messages": messages.plain,
            "memories": {agent: [asdict(record) for record in records] for agent, records in self.memories.items()},
        }
        return zlib.compress(canonical(fields), level=1)

    @classmethod
    def unpack(cls, content: bytes) -> World:
        """What `pack` gave."""
        fields = plain(zlib.decompress(content))
        agents = [AgentSpec.model_validate(agent) for agent in fields["agents"]]
        messages = [Message.from_json(message) for message in fields.pop("messages")]
        inbox = {agent: tuple(messages[place] for place in inbox) for agent, inbox in fields["inbox"].items()}
        memories = {agent: tuple(Record(**r) for r in records) for agent, records in fields["memories"].items()}
        flights = tuple(
            Flight(
                name,
                sent,
                {to: messages[place] for to, _, place in copies},
                {to: due for to, due, _ in copies},
            )
            for name, sent, copies in fields["flights"]
        )
        return cls(
            **{**fields, "agents": {a.id: a for a in agents}, "inbox": inbox, "memories": memories, "flights": flights}
        )


class _Messages:
    """The messages of a snapshot, which are told apart by what they are and not by what they say."""

    def __init__(self) -> None:
        self.plain: list[dict[str, Any]] = []
        self._places: dict[int, int] = {}

    def place(self, message: Message) -> int:
        """Where a message stands among them."""
        place = self._places.setdefault(id(message), len(self.plain))
        if place == len(self.plain):
            self.plain.append(message.to_json())
        return place


def seat_of(agent: AgentSpec) -> Seat:
    """An agent as its scenario knows it."""
    return Seat(agent.id, agent.profile)
