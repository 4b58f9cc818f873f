"""Links that change by round, given as masks: a graph unrolled over rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from steerline.config.simulation_topology import MasksTopology
from steerline.errors import SimulationError
from steerline.simulation.action import Action
from steerline.simulation.message import Draft
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Seat
from steerline.simulation.topology import Topology


class Masks(Topology):
    """An edge u to v of the spatial mask carries u's message to v in the same round, one of the temporal mask carries
    u's message of the round before. The state is the number of the round; after the last round nobody acts.

    Raises:
        SimulationError: a round's spatial edges form a circle, in which everybody would wait for somebody.
    """

    def __init__(self, spec: MasksTopology) -> None:
        self._spec = spec
        self._places = {agent: place for place, agent in enumerate(spec.nodes)}
        self._orders = [self._sorted(number) for number in range(len(spec.spatial))]

    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        strangers = {seat.id for seat in seats} ^ set(self._spec.nodes)
        if strangers:
            raise SimulationError(
                f"the masks and the agents differ in {min(strangers)}",
                where="topology.nodes",
                expected="the agents' ids",
            )
        return 0

    def routes(self, state: Any, draft: Draft) -> Mapping[str, int]:
        spec, row = self._spec, self._places[draft.sender]
        delays: dict[str, int] = {}
        if state + 1 < len(spec.temporal):
            delays |= {spec.nodes[v]: 1 for v, edge in enumerate(spec.temporal[state + 1][row]) if edge}
        # Heard in this round already; the next one brings nothing new.
        return delays | {spec.nodes[v]: 0 for v, edge in enumerate(spec.spatial[state][row]) if edge}

    def order(self, state: Any, actors: Sequence[str]) -> Sequence[str]:
        active = self._spec.active[state]
        return [agent for agent in self._orders[state] if agent in actors and active[self._places[agent]]]

    def step(self, state: Any, actions: Sequence[Action], rng: CounterRng) -> Any:
        return state + 1

    def finished(self, state: Any) -> str | None:
        return "the masks have no further round" if state >= len(self._spec.spatial) else None

    def _sorted(self, number: int) -> list[str]:
        nodes, matrix = self._spec.nodes, self._spec.spatial[number]
        before = {nodes[v]: [nodes[u] for u in range(len(nodes)) if matrix[u][v]] for v in range(len(nodes))}
        try:
            return list(TopologicalSorter(before).static_order())
        except CycleError as error:
            raise SimulationError(
                "the spatial mask has a circle",
                where=f"topology.spatial[{number}]",
                got=" > ".join(error.args[1]),
                expected="edges along which a round can be played once",
                fix="move one of these edges to the temporal mask of the next round",
            ) from error
