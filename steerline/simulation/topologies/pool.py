"""A shared message pool: messages go out under a topic and reach those who subscribe to it (as in MetaGPT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steerline.simulation.message import Draft
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Seat
from steerline.simulation.topology import Topology

EVERY_TOPIC = "*"


class Pool(Topology):
    """The state maps each agent to its topics.

    Args:
        subscriptions: topics by agent id or role.
    """

    def __init__(self, subscriptions: Mapping[str, Sequence[str]]) -> None:
        self._subscriptions = subscriptions

    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        return {seat.id: self._topics(seat) for seat in seats}

    def routes(self, state: Any, draft: Draft) -> Mapping[str, int]:
        return {
            agent: 0
            for agent, topics in state.items()
            if agent != draft.sender and (EVERY_TOPIC in topics or draft.channel in topics)
        }

    def joined(self, state: Any, seat: Seat, parent: str) -> Any:
        return dict(sorted({**state, seat.id: self._topics(seat)}.items()))

    def left(self, state: Any, agent: str) -> Any:
        return {other: topics for other, topics in state.items() if other != agent}

    def _topics(self, seat: Seat) -> list[str]:
        named = [self._subscriptions[name] for name in (seat.id, seat.profile.role) if name in self._subscriptions]
        return sorted({topic for topics in named for topic in topics}) if named else [EVERY_TOPIC]
