"""Who can hear whom. A topology is pure: what it knows of a run lies in a state of plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

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
    def hearers(self, state: Any, draft: Draft) -> Sequence[str]:
        """The agents that can hear the sender of a message, in order of their ids."""

    def step(self, state: Any, actions: Mapping[str, Action], rng: CounterRng) -> Any:
        """The state after a tick in which the agents did this."""
        return state

    def finished(self, state: Any) -> str | None:
        """Why the topology ends the run; none while it does not."""
        return None

    def joined(self, state: Any, seat: Seat, parent: str | None) -> Any:
        """The state after an agent came in."""
        raise NotImplementedError

    def left(self, state: Any, agent: str) -> Any:
        """The state after an agent went away."""
        raise NotImplementedError


class Full(Topology):
    """Everybody hears everybody. The state is the list of ids: links would grow with their square."""

    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        return [seat.id for seat in seats]

    def hearers(self, state: Any, draft: Draft) -> Sequence[str]:
        return [agent for agent in state if agent != draft.sender]

    def joined(self, state: Any, seat: Seat, parent: str | None) -> Any:
        return sorted([*state, seat.id])

    def left(self, state: Any, agent: str) -> Any:
        return [other for other in state if other != agent]


class Linked(Topology):
    """Base of topologies whose links are fixed at the start. The state maps each agent to those that hear it."""

    @abstractmethod
    def links(self, seats: Sequence[Seat], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        """Those that hear each agent."""

    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        links = self.links(seats, rng)
        return {seat.id: sorted(set(links.get(seat.id, ())) - {seat.id}) for seat in seats}

    def hearers(self, state: Any, draft: Draft) -> Sequence[str]:
        hearers: Sequence[str] = state.get(draft.sender, ())
        return hearers

    def joined(self, state: Any, seat: Seat, parent: str | None) -> Any:
        """A new agent is linked, both ways, with the one that created it."""
        if parent is None:
            return {**state, seat.id: []}
        return {**state, seat.id: [parent], parent: sorted([*state[parent], seat.id])}

    def left(self, state: Any, agent: str) -> Any:
        return {one: [other for other in links if other != agent] for one, links in state.items() if one != agent}


class Ring(Linked):
    """A circle in order of the ids; `reach` neighbours on either side."""

    def __init__(self, reach: int) -> None:
        self.reach = reach

    def links(self, seats: Sequence[Seat], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        ids = [seat.id for seat in seats]
        steps = [step for step in range(-self.reach, self.reach + 1) if step]
        return {agent: [ids[(place + step) % len(ids)] for step in steps] for place, agent in enumerate(ids)}
