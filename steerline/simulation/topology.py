"""Who can hear whom. A topology is pure: what it knows of a run lies in a state of plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from steerline.errors import SimulationError
from steerline.simulation.action import Action
from steerline.simulation.message import Draft
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Seat


class Topology(ABC):
    """Base of all topologies."""

    @abstractmethod
    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        """The state for these agents, who come in order of their ids.

        Raises:
            SimulationError: these agents cannot be linked in this way.
        """

    @abstractmethod
    def routes(self, state: Any, draft: Draft) -> Mapping[str, int]:
        """The agents that can hear the sender of a message, and how many ticks it takes to each; mostly 0."""

    def order(self, state: Any, actors: Sequence[str]) -> Sequence[str]:
        """Which of the actors act in this tick, and in which order where they take turns."""
        return actors

    def step(self, state: Any, actions: Sequence[Action], rng: CounterRng) -> Any:
        """The state after a tick in which this was done."""
        return state

    def finished(self, state: Any) -> str | None:
        """Why the topology ends the run; none while it does not."""
        return None

    def joined(self, state: Any, seat: Seat, parent: str) -> Any:
        """The state after an agent came in, created by another one.

        Raises:
            SimulationError: no agent can come in.
        """
        raise SimulationError("this topology takes no new agents", where=f"agent {seat.id}")

    def left(self, state: Any, agent: str) -> Any:
        """The state after an agent went away. What is sent to it is not delivered in any case."""
        return state


class Full(Topology):
    """Everybody hears everybody. The state is the list of ids: links would grow with their square."""

    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        return [seat.id for seat in seats]

    def routes(self, state: Any, draft: Draft) -> Mapping[str, int]:
        return {agent: 0 for agent in state if agent != draft.sender}

    def joined(self, state: Any, seat: Seat, parent: str) -> Any:
        return sorted([*state, seat.id])

    def left(self, state: Any, agent: str) -> Any:
        return [other for other in state if other != agent]


class Unlinked(Topology):
    """Nobody hears anybody."""

    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        return None

    def routes(self, state: Any, draft: Draft) -> Mapping[str, int]:
        return {}

    def joined(self, state: Any, seat: Seat, parent: str) -> Any:
        return None


class Linked(Topology):
    """Base of topologies with links. The state maps each agent to those that hear it."""

    @abstractmethod
    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        """Those that hear each agent, at the start."""

    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        ids = [seat.id for seat in seats]
        links = self.links(ids, rng)
        whole = {agent: sorted(set(links.get(agent, ())) - {agent}) for agent in ids}
        heard = {hearer for hearers in whole.values() for hearer in hearers}
        cut_off = [agent for agent in ids if not whole[agent] and agent not in heard]
        if cut_off and len(ids) > 1:
            raise SimulationError(
                f"the topology leaves {cut_off[0]} unreachable",
                got=f"{len(cut_off)} of {len(ids)} agents without a link",
                expected="every agent hears or is heard",
                fix="name them in the topology, or take them out of `agents`",
            )
        return whole

    def routes(self, state: Any, draft: Draft) -> Mapping[str, int]:
        return dict.fromkeys(state.get(draft.sender, ()), 0)

    def joined(self, state: Any, seat: Seat, parent: str) -> Any:
        """A new agent is linked, both ways, with the one that created it."""
        return {**state, seat.id: [parent], parent: sorted([*state.get(parent, ()), seat.id])}

    def left(self, state: Any, agent: str) -> Any:
        return {one: [other for other in links if other != agent] for one, links in state.items() if one != agent}


def both_ways(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Links in both directions."""
    links: dict[str, list[str]] = {}
    for one, other in pairs:
        links.setdefault(one, []).append(other)
        links.setdefault(other, []).append(one)
    return links
