"""Who answers for the agents of a run: policies, models, people."""

from __future__ import annotations

from collections.abc import Sequence

from steerline.config.simulation_agents import ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.game import Game
from steerline.simulation.scenario import Policy
from steerline.simulation.turn import Decision, Turn


class Brains:
    """Answers turns with the brains that the agents' specs name."""

    def __init__(self, game: Game) -> None:
        self._game = game

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        """An answer to each turn, in order."""
        return [self._scripted(turn) for turn in turns]

    def _scripted(self, turn: Turn) -> Decision:
        brain = turn.agent.brain
        assert isinstance(brain, ScriptedBrain)
        policy = self._policy(brain.policy, turn.agent.id)
        return Decision(policy(turn.observation, turn.agent.profile, turn.rng))

    def _policy(self, name: str, agent: str) -> Policy:
        policies = self._game.scenario.scripted
        if name not in policies:
            raise SimulationError(
                f"{self._game.spec.scenario} has no scripted policy {name}",
                where=f"agent {agent}",
                expected=" | ".join(policies),
            )
        return policies[name]
