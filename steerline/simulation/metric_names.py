"""Which numbers a simulation gives, told without asking a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import (
    AgentSpec,
    GeneratedPopulation,
    GroupSpec,
    MixedPopulation,
    PopulationSpec,
    ScriptedBrain,
)
from steerline.config.simulation_running import LiveReplay
from steerline.simulation.efficiency import efficiency
from steerline.simulation.efficiency.measures import num_weights
from steerline.simulation.efficiency.vote import MEASURES
from steerline.simulation.efficiency.without import MEASURES as OF_PARTS
from steerline.simulation.efficiency.without import Part
from steerline.simulation.names import scenario_class
from steerline.simulation.runner import run

_TICKS = 3
_OF_CALLS = (
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "prefix_hit",
    "model_seconds",
    "critical_path_s",
    "parallel_speed",
    "coordination_overhead",
    "communication_tax",
)
_OF_PRICES = ("cost", "cost_uncached", "cost_per_success")


def metric_names(spec: SimulationSpec, *, against_vote: bool = False, without: Sequence[Part] = ()) -> frozenset[str]:
    """The scenario's metrics, and `efficiency/` measures: those of a few ticks in which all agents follow a script.

    Args:
        spec: the simulation.
        against_vote: whether a vote of equal cost is played beside it.
        without: parts that it is played again without.

    Raises:
        SimulationError: it cannot be played.
    """
    policy = next(iter(scenario_class(spec.scenario).scripted))
    script = ScriptedBrain(kind="scripted", policy=policy)
    agents = tuple(
        agent if isinstance(agent.brain, ScriptedBrain) else AgentSpec(id=agent.id, profile=agent.profile, brain=script)
        for agent in spec.agents
    )
    changes: dict[str, Any] = {
        "agents": agents,
        "population": _scripted(spec.population, script),
        "models": {},
        "workflow": (),
        "replay": LiveReplay(kind="live"),
        "max_ticks": _TICKS,
    }
    result = run(spec.model_copy(update=changes))
    names = {name for values in result.metrics for name in values}
    measured = {*efficiency(result, ())}
    if spec.models and "correct" in measured:
        measured |= {"correct_per_call", "last_round_value"}
    if spec.models:
        measured |= {*_OF_CALLS, *(_OF_PRICES if _has_prices(spec) else ())}
        measured |= {"flops"} if None not in map(num_weights, spec.models.values()) else set()
    if against_vote:
        measured |= {*MEASURES}
    for part in without:
        measured |= {*OF_PARTS[part]}
    return frozenset(names | {f"efficiency/{name}" for name in measured})


def _scripted(population: PopulationSpec | None, script: ScriptedBrain) -> PopulationSpec | None:
    """A population that follows a script; one that a model would invent is of agents without profiles."""
    match population:
        case MixedPopulation(groups=groups):
            return population.model_copy(
                update={"groups": tuple(group.model_copy(update={"brain": script}) for group in groups)}
            )
        case GeneratedPopulation(count=count, prefix=prefix):
            return MixedPopulation(kind="mix", count=count, prefix=prefix, groups=(GroupSpec(brain=script),))
    return None if population is None else population.model_copy(update={"brain": script})


def _has_prices(spec: SimulationSpec) -> bool:
    return any(model.prompt_price or model.completion_price for model in spec.models.values())
