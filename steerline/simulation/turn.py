"""A turn: an agent is asked something, and a text comes back. Whoever answers is a decider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from steerline.config.simulation_agents import AgentSpec
from steerline.simulation.observation import Observation
from steerline.simulation.rng import CounterRng

Purpose = Literal["act", "reflect", "summarise", "interview", "invent"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One question to one agent."""

    agent: AgentSpec
    observation: Observation
    rng: CounterRng
    """The agent's own draws at this turn."""
    purpose: Purpose = "act"

    @property
    def place(self) -> tuple[int, int, str, str]:
        """Where in the history it stands: tick, sub-round, agent, purpose."""
        return (self.observation.tick, self.observation.round, self.agent.id, self.purpose)


@dataclass(frozen=True, slots=True)
class Decision:
    """What came back."""

    text: str | None
    """The answer; none where there was none, and the default is taken."""
    reason: str = ""
    """Why there was none."""
    late: bool = False
    """Whether it answers an earlier turn and comes only now."""
    reviewed: str = ""
    """What a person made of it: approved, edited or vetoed; empty where nobody was asked."""
    removed: int = 0
    cut: int = 0
    """Characters that were taken out and cut off before the text was recorded; 0 for a text that comes as it was."""


class Decider(Protocol):
    """Answers turns: brains do, and so does the record of an earlier run."""

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        """An answer to each turn, in order. All turns of a call see the same snapshot; their order means nothing."""
        ...
