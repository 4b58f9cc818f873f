"""Random graphs, drawn from the simulation's seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steerline.errors import SimulationError
from steerline.simulation.action import Action
from steerline.simulation.rng import CounterRng
from steerline.simulation.topology import Linked, both_ways

_SEEDS = 2**31 - 1


class SmallWorld(Linked):
    """Watts and Strogatz (1998)."""

    def __init__(self, neighbours: int, rewire: float) -> None:
        self._neighbours = neighbours
        self._rewire = rewire

    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        import networkx

        if len(ids) <= self._neighbours:
            raise _too_few(ids, "neighbours", self._neighbours + 1)
        seed = rng.integer(0, _SEEDS, "small_world")
        # The connected variant draws again until nobody is cut off.
        graph = networkx.connected_watts_strogatz_graph(len(ids), self._neighbours, self._rewire, seed=seed)
        return both_ways([(ids[one], ids[other]) for one, other in graph.edges])


class ScaleFree(Linked):
    """Barabasi and Albert (1999)."""

    def __init__(self, links: int) -> None:
        self._links = links

    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        import networkx

        if len(ids) <= self._links:
            raise _too_few(ids, "links", self._links + 1)
        graph = networkx.barabasi_albert_graph(len(ids), self._links, seed=rng.integer(0, _SEEDS, "scale_free"))
        return both_ways([(ids[one], ids[other]) for one, other in graph.edges])


class RandomRegular(Linked):
    """Every agent has the same number of links (Steger and Wormald 1999)."""

    def __init__(self, degree: int) -> None:
        self._degree = degree

    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        import networkx

        if len(ids) <= self._degree:
            raise _too_few(ids, "degree", self._degree + 1)
        if len(ids) * self._degree % 2:
            raise SimulationError(
                "links come in pairs of ends",
                got=f"{len(ids)} agents of degree {self._degree}",
                expected="an even product",
            )
        graph = networkx.random_regular_graph(self._degree, len(ids), seed=rng.integer(0, _SEEDS, "random_regular"))
        return both_ways([(ids[one], ids[other]) for one, other in graph.edges])


class Rewiring(Linked):
    """Links that go out from each agent and move over time."""

    def __init__(self, degree: int, every: int, share: float) -> None:
        self._degree = degree
        self._every = every
        self._share = share

    def links(self, ids: Sequence[str], rng: CounterRng) -> Mapping[str, Sequence[str]]:
        if len(ids) <= self._degree:
            raise _too_few(ids, "degree", self._degree + 1)
        steps = range(1, self._degree + 1)
        return {agent: [ids[(place + step) % len(ids)] for step in steps] for place, agent in enumerate(ids)}

    def step(self, state: Any, actions: Sequence[Action], rng: CounterRng) -> Any:
        if (rng.tick + 1) % self._every:
            return state
        return {agent: self._moved(agent, hearers, list(state), rng) for agent, hearers in state.items()}

    def _moved(self, agent: str, hearers: Sequence[str], ids: Sequence[str], rng: CounterRng) -> list[str]:
        new = list(hearers)
        for place, hearer in enumerate(hearers):
            free = [other for other in ids if other != agent and other not in new]
            if free and rng.uniform(f"move/{agent}", hearer) < self._share:
                new[place] = rng.choice(free, f"to/{agent}", hearer)
        return sorted(new)


def _too_few(ids: Sequence[str], field: str, least: int) -> SimulationError:
    return SimulationError(
        "there are too few agents for this topology",
        where=f"topology.{field}",
        got=len(ids),
        expected=f"at least {least}",
    )
