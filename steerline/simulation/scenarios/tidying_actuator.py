"""The physical side of tidying: what drives real robots, joined to a simulation as the brain of its `actuator` seat.

A simulation is pure, so a machine is not called from its rules: it takes a seat. At the seat's turn the machine carries
out the commands and answers with what its sensors say; the answer is logged like any action, so that a replay needs no
machine. The scripted policy `twin` of the scenario answers at the same seat by calculation.

    agents:
      - {id: arm, profile: {role: actuator}, brain: {kind: custom, name: "steerline.simulation.scenarios.\
tidying_actuator:ActuatorBrain", params: {device: "my_lab.robots:Gripper", timeout_s: 30}}}
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from steerline.errors import SimulationError
from steerline.simulation.canonical import canonical
from steerline.simulation.names import find
from steerline.simulation.scenarios.tidying_floor import Floor
from steerline.simulation.turn import Turn

ACTUATOR_GROUP = "steerline.actuators"


class Actuator(Protocol):
    """Drives robots."""

    async def carry_out(self, floor: Floor, commands: Mapping[str, str]) -> Floor:
        """Carry out one step.

        Args:
            floor: where the simulation believes everything to be.
            commands: by robot, the name of an object, `box` or `wait`.

        Returns:
            where everything is now, by the sensors.
        """
        ...


class ActuatorBrain:
    """Lets an actuator answer at its seat.

    Args:
        device: the actuator's class: an entry point of the group `steerline.actuators`, or `module:Class`.
        timeout_s: seconds that a step may take.
        params: keyword arguments of the class.
    """

    def __init__(self, device: str, timeout_s: float = 60.0, params: Mapping[str, Any] | None = None) -> None:
        self._device = device
        self._timeout_s = timeout_s
        self._actuator: Actuator = find(device, {}, ACTUATOR_GROUP, "actuator")(**(params or {}))

    async def decide(self, turn: Turn) -> str:
        """What the sensors say after the step.

        Raises:
            SimulationError: the step took too long.
        """
        facts = turn.observation.facts
        try:
            async with asyncio.timeout(self._timeout_s):
                return canonical(await self._actuator.carry_out(facts["floor"], facts["commands"])).decode()
        except TimeoutError as error:
            raise SimulationError(
                f"the actuator {self._device} did not finish its step",
                where=f"agent {turn.agent.id}, tick {turn.observation.tick}",
                expected=f"an answer within {self._timeout_s:g} s",
                fix="see to the machine, then resume the run; the step is asked for again",
            ) from error
