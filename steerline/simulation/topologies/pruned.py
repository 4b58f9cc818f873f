"""Agents that nobody agrees with fall silent, and consensus ends the run: after DyLAN (Liu et al. 2023).

DyLAN lets a model rank the agents of a layer; here the rank is the number of others who did the same, so that it needs
no further calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from steerline.simulation.action import Action
from steerline.simulation.canonical import canonical
from steerline.simulation.message import Draft
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Seat
from steerline.simulation.topology import Topology


class Pruned(Topology):
    """Full mesh of the agents that are left; the others neither act nor are heard.

    Args:
        keep: agents that are always left.
        every: ticks between prunings, of one agent each.
        consensus: share of equal actions at which the run ends.
    """

    def __init__(self, keep: int, every: int, consensus: float) -> None:
        self._keep = keep
        self._every = every
        self._consensus = consensus

    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        return {"left": [seat.id for seat in seats], "agreed": False}

    def routes(self, state: Any, draft: Draft) -> Mapping[str, int]:
        return {agent: 0 for agent in state["left"] if agent != draft.sender}

    def order(self, state: Any, actors: Sequence[str]) -> Sequence[str]:
        return [agent for agent in actors if agent in state["left"]]

    def step(self, state: Any, actions: Sequence[Action], rng: CounterRng) -> Any:
        last = {action.agent: canonical(action.payload) for action in actions if action.agent in state["left"]}
        if not last:
            return state
        counts = Counter(last.values())
        if max(counts.values()) >= self._consensus * len(last):
            return {**state, "agreed": True}
        if (rng.tick + 1) % self._every or len(state["left"]) <= self._keep:
            return state
        out = min(last, key=lambda agent: (counts[last[agent]], rng.uniform("tie", agent)))
        return {**state, "left": [agent for agent in state["left"] if agent != out]}

    def finished(self, state: Any) -> str | None:
        return "the agents agree" if state["agreed"] else None

    def left(self, state: Any, agent: str) -> Any:
        return {**state, "left": [other for other in state["left"] if other != agent]}
