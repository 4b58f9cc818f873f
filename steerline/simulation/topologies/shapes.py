"""Topologies of a set shape: ring, chain, star, layers, tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from steerline.errors import SimulationError
from steerline.simulation.rng import CounterRng
from steerline.simulation.topology import Linked, both_ways


class Ring(Linked):
    """A circle in order of the ids; `reach` neighbours on either side."""

    def __init__(self, reach: int) -> None:
        self._reach = reach

    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        steps = [step for step in range(-self._reach, self._reach + 1) if step]
        return {agent: [ids[(place + step) % len(ids)] for step in steps] for place, agent in enumerate(ids)}


class Chain(Linked):
    """Each agent is heard by the next one only."""

    def __init__(self, order: Sequence[str] | None) -> None:
        self._order = order

    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        return {one: [following] for one, following in pairwise(self._order or ids)}


class Star(Linked):
    """A hub that hears all and is heard by all."""

    def __init__(self, hub: str) -> None:
        self._hub = hub

    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        if self._hub not in ids:
            raise SimulationError(
                f"the hub {self._hub} is no agent", where="topology.hub", expected=", ".join(ids[:20])
            )
        return both_ways([(self._hub, agent) for agent in ids if agent != self._hub])


class Layered(Linked):
    """Levels: talk within a level, downward, and upward where allowed."""

    def __init__(self, levels: Sequence[Sequence[str]], *, within: bool, upward: bool) -> None:
        self._levels = levels
        self._within = within
        self._upward = upward

    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        links: dict[str, list[str]] = {agent: [] for level in self._levels for agent in level}
        for upper, lower in pairwise(self._levels):
            for agent in upper:
                links[agent] += lower
            if self._upward:
                for agent in lower:
                    links[agent] += upper
        if self._within:
            for level in self._levels:
                for agent in level:
                    links[agent] += level
        return links


class Tree(Linked):
    """A tree filled in order of the ids; talk between parent and child."""

    def __init__(self, branching: int) -> None:
        self._branching = branching

    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        return both_ways([(ids[(place - 1) // self._branching], ids[place]) for place in range(1, len(ids))])
