"""The part of a simulation that never changes: the spec with what its names stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steerline.config.render import identity_hash
from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.simulation.names import scenario
from steerline.simulation.observation import Prompt
from steerline.simulation.prompting import compose
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Scenario
from steerline.simulation.topologies.named import topology_of
from steerline.simulation.topology import Topology
from steerline.simulation.turn import Turn


@dataclass(frozen=True)
class Game:
    """A simulation's rules."""

    spec: SimulationSpec
    scenario: Scenario[Any]
    topology: Topology
    rng: CounterRng

    @classmethod
    def of(cls, spec: SimulationSpec) -> Game:
        """Look up what a spec names.

        Raises:
            SimulationError: something it names does not exist, or does not take its settings or the engine's mode.
        """
        played = scenario(spec.scenario, spec.params)
        if spec.engine == "sequential" and not played.takes_turns:
            raise SimulationError(
                f"all move at once in {spec.scenario}",
                where="engine",
                got="sequential",
                expected="simultaneous | event",
                fix="set `engine: simultaneous`",
            )
        return cls(spec, played, topology_of(spec.topology), CounterRng(spec.seed))

    def prompt(self, turn: Turn) -> Prompt:
        """What a model is asked at a turn: the scenario's prompt, or its rules with a question from outside."""
        if turn.purpose == "act":
            return self.scenario.prompt(turn.observation, turn.agent.profile)
        return compose(self.scenario.rules(), turn.observation, turn.agent.profile)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what decides the course of the simulation."""
        return identity_hash(self.spec)
