"""A simulation, whole: world, agents, who hears whom, how it runs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from steerline.config.base import NOT_IDENTITY, Spec, misfit
from steerline.config.simulation_agents import (
    AgentSpec,
    ArchetypeBrain,
    BrainSpec,
    GeneratedPopulation,
    ImitationSpec,
    LlmBrain,
    PopulationSpec,
    model_part,
)
from steerline.config.simulation_running import (
    BudgetSpec,
    DurabilitySpec,
    EngineMode,
    InjectStep,
    InterviewStep,
    LiveReplay,
    ModelRef,
    ReplaySpec,
    StragglerSpec,
    WorkflowStep,
)
from steerline.config.simulation_topology import (
    ChainTopology,
    FullTopology,
    InterceptorSpec,
    LayeredTopology,
    MasksTopology,
    PoolTopology,
    StarTopology,
    TopologySpec,
)


class SimulationSpec(Spec):
    """One simulation. Its fingerprint is the hash of the fields that decide what happens in it."""

    name: str = Field(
        default="simulation", pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$", json_schema_extra=NOT_IDENTITY
    )
    """Readable part of the run's name."""
    schema_version: Literal[1] = 1
    """Version of this format."""
    scenario: str
    """A built-in scenario, an entry point of the group `steerline.scenarios`, or `module:Class`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The scenario's own settings (`steerline simulate SCENARIO --list` shows them)."""
    agents: tuple[AgentSpec, ...] = ()
    """The agents, one by one."""
    population: PopulationSpec | None = None
    """More agents, by distribution, from a table or written by a model."""
    topology: TopologySpec = FullTopology(kind="full")
    """Who can hear whom."""
    interceptors: tuple[InterceptorSpec, ...] = ()
    """What messages pass on their way, in order."""
    engine: EngineMode = "simultaneous"
    """Who decides when, inside a tick."""
    max_ticks: int = Field(ge=1)
    """Ticks after which the run ends if the scenario has not ended it."""
    imitation: ImitationSpec | None = None
    """Whether strategies spread by success; none keeps every agent's brain."""
    max_agents: int = Field(default=1000, ge=1)
    """Most agents alive at once, when agents may create others."""
    seed: int = Field(default=0, ge=0)
    """Seed of every draw in the world."""
    models: dict[str, ModelRef] = Field(default_factory=dict)
    """Models by alias."""
    straggler: StragglerSpec = StragglerSpec()
    """What happens to late and failing turns."""
    workflow: tuple[WorkflowStep, ...] = ()
    """What happens between ticks."""
    max_text: int = Field(default=20_000, ge=1)
    """Longest text of an agent, in characters; what is beyond is cut, with an event."""
    budgets: BudgetSpec = Field(default=BudgetSpec(), json_schema_extra=NOT_IDENTITY)
    """Limits."""
    durability: DurabilitySpec = Field(default=DurabilitySpec(), json_schema_extra=NOT_IDENTITY)
    """What is on the disk, and when."""
    replay: ReplaySpec = Field(default=LiveReplay(kind="live"), json_schema_extra=NOT_IDENTITY)
    """Where the answers of models come from."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> SimulationSpec:
        ids = [agent.id for agent in self.agents]
        twice = sorted({name for name in ids if ids.count(name) > 1}) if len(ids) != len(set(ids)) else []
        if twice:
            raise misfit(f"two agents are named {twice[0]}", "agents", expected="each id once")
        return self

    @model_validator(mode="after")
    def _models_are_known(self) -> SimulationSpec:
        for place, alias in self._aliases():
            if alias not in self.models:
                raise misfit(
                    f"no model is called {alias}",
                    place,
                    expected=" | ".join(self.models) or "an alias under `models`",
                    fix=f"add it under `models.{alias}`",
                )
        return self

    @model_validator(mode="after")
    def _agents_that_are_named_take_part(self) -> SimulationSpec:
        known = {agent.id for agent in self.agents}
        if self.population is not None:
            return self
        for place, names in self.named():
            if strangers := sorted(names - known):
                raise misfit(f"{strangers[0]} is no agent", place, expected=", ".join(sorted(known)))
        return self

    @model_validator(mode="after")
    def _subscribers_take_part(self) -> SimulationSpec:
        may_come = self.population is not None or any(agent.spawn_quota for agent in self.agents)
        if isinstance(self.topology, PoolTopology) and not may_come:
            known = {agent.id for agent in self.agents} | {agent.profile.role for agent in self.agents} - {""}
            if strangers := sorted(self.topology.subscriptions.keys() - known):
                raise misfit(
                    f"{strangers[0]} is neither an agent nor the role of one",
                    "topology.subscriptions",
                    expected=", ".join(sorted(known)),
                )
        return self

    @model_validator(mode="after")
    def _masks_are_played_in_turns(self) -> SimulationSpec:
        if isinstance(self.topology, MasksTopology) and self.engine != "sequential":
            raise misfit("masks let agents hear each other inside a round", "engine", fix="set `engine: sequential`")
        return self

    @model_validator(mode="after")
    def _budgets_let_something_happen(self) -> SimulationSpec:
        most_tokens = self.budgets.max_tokens
        is_free = all(model.prompt_price == 0 == model.completion_price for model in self.models.values())
        for place, llm in self._asking():
            if most_tokens is not None and llm.sampling.max_tokens >= most_tokens:
                raise misfit(
                    "no call fits into the budget",
                    "budgets.max_tokens",
                    f"{place}.sampling.max_tokens",
                    expected=f"more than the {llm.sampling.max_tokens} tokens of one answer",
                )
        if self.budgets.max_cost is not None and self.models and is_free:
            raise misfit("nothing costs anything", "budgets.max_cost", fix="set the prices of the models")
        return self

    @model_validator(mode="after")
    def _answers_for_many_are_in_time(self) -> SimulationSpec:
        place = next((place for place, brain in self.brains() if isinstance(brain, ArchetypeBrain)), None)
        if place is not None and self.straggler.policy == "late":
            raise misfit(
                "a late answer would have to find those who were alike a tick ago",
                "straggler.policy",
                place,
                expected="wait | default, beside a brain `archetype`",
            )
        return self

    def named(self) -> list[tuple[str, set[str]]]:
        """Where agents are named, and which."""
        named = [("topology", _named(self.topology))]
        for place, interceptor in enumerate(self.interceptors):
            match = interceptor.match
            named.append((f"interceptors.{place}", {*(match.senders or ()), *(match.recipients or ())}))
        for place, step in enumerate(self.workflow):
            if isinstance(step, InjectStep):
                named.append((f"workflow.{place}.recipients", set(step.recipients or ())))
            if isinstance(step, InterviewStep):
                named.append((f"workflow.{place}.agents", set(step.agents or ())))
        return named

    def _aliases(self) -> list[tuple[str, str]]:
        named = [(place, llm.model) for place, llm in self._asking()]
        if isinstance(self.population, GeneratedPopulation):
            named.append(("population.model", self.population.model))
        return named

    def _asking(self) -> list[tuple[str, LlmBrain]]:
        """Brains that ask a model, and where they stand."""
        return [(place, llm) for place, brain in self.brains() if (llm := model_part(brain)) is not None]

    def brains(self) -> list[tuple[str, BrainSpec]]:
        """Every brain, and where it stands."""
        brains: list[tuple[str, BrainSpec]] = [(f"agents.{n}.brain", a.brain) for n, a in enumerate(self.agents)]
        if self.population is not None:
            groups = self.population.groups if self.population.kind == "mix" else (self.population,)
            brains += [("population", group.brain) for group in groups]
        return brains


def _named(topology: TopologySpec) -> set[str]:
    """The agents that a topology names."""
    match topology:
        case StarTopology(hub=hub):
            return {hub}
        case ChainTopology(order=order):
            return set(order or ())
        case LayeredTopology(levels=levels):
            return {name for level in levels for name in level}
        case MasksTopology(nodes=nodes):
            return set(nodes)
    return set()
