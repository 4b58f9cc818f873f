"""Scripted developers, one for each role. Their rates are settings of their profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.config.simulation_topology import LayeredTopology
from steerline.simulation.observation import Observation
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Policy
from steerline.simulation.scenarios.software_tasks import TASKS, Task, Test

CODER, TESTER, REPAIRER, CLIENT = "coder", "tester", "repairer", "client"


def team(
    rates: Mapping[str, float] | None = None, *, testers: int = 1, client: bool = False, **params: Any
) -> SimulationSpec:
    """A scripted team in layers, all with these rates: `coder`, `tester-1` and so on, `repairer`, perhaps `client`."""
    levels = ((CODER,), tuple(f"{TESTER}-{n}" for n in range(1, testers + 1)), (REPAIRER,), *[(CLIENT,)] * client)
    profiles = {role: Profile(role=role, attributes=dict(rates or {})) for role in POLICIES}
    agents = tuple(
        AgentSpec(id=name, profile=profiles[role], brain=ScriptedBrain(kind="scripted", policy=role))
        for role, level in zip(POLICIES, levels, strict=False)
        for name in level
    )
    topology = LayeredTopology(kind="layered", levels=levels)
    ticks = max(1, params.get("rounds", 3))
    return SimulationSpec(scenario="software", params=params, agents=agents, topology=topology, max_ticks=ticks)


def coder(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Writes the known mistake with chance `bug_rate` (0.5), the solution otherwise."""
    buggy = rng.uniform("bug") < _rate(profile, "bug_rate", 0.5)
    task = _task(observation)
    return _block(task.buggy if buggy else task.solution)


def tester(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Writes a test that finds the mistake with chance `detects` (0.7), one that does not otherwise.

    With chance `false_alarms` (0) it adds a test that asks for the wrong thing.
    """
    task = _task(observation)
    tests = [task.exposing if rng.uniform("detect") < _rate(profile, "detects", 0.7) else task.harmless]
    if rng.uniform("alarm") < _rate(profile, "false_alarms", 0.0):
        tests.append((task.harmless[0], "'wrong'"))
    return "\n".join(map(_line, tests))


def repairer(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Mends what the tests found with chance `fixes` (0.5), and leaves the code as it is otherwise."""
    mended = rng.uniform("fix") < _rate(profile, "fixes", 0.5)
    return _block(_task(observation).solution if mended else str(observation.facts["code"]))


def client(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Accepts what passes its tests."""
    if observation.facts["failures"]:
        return answer("change", "It does not work yet.")
    return answer("accept", "It works.")


POLICIES: dict[str, Policy] = {CODER: coder, TESTER: tester, REPAIRER: repairer, CLIENT: client}


def _task(observation: Observation) -> Task:
    return TASKS[observation.facts["task"]]


def _rate(profile: Profile, name: str, default: float) -> float:
    return float(profile.attributes.get(name, default))


def _block(code: str) -> str:
    return f"```python\n{code}```"


def _line(test: Test) -> str:
    expression, expected = test
    return f"assert {expression} == {expected}"
