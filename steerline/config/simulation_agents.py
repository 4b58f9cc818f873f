"""Who takes part in a simulation: profiles, what decides for an agent, what it remembers, how it may change."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit
from steerline.config.inference import SamplingSpec
from steerline.config.simulation_distributions import Bounds, DistributionSpec, check_bounds
from steerline.config.steering import SteeringSpec

AGENT_ID = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$"
AgentId = Annotated[str, Field(pattern=AGENT_ID)]
"""Name of an agent: letters, digits, `_`, `.` and `-`."""

ProfileField = Literal["role", "traits", "goals", "skills", "constraints"]
"""The parts of a profile that self-evolution may rewrite."""


class Profile(Spec):
    """Who an agent is. All of it reaches the agent's own prompt and nobody else's."""

    role: str = ""
    """Part that it plays, e.g. `proponent`; scenarios with fixed roles read it."""
    traits: tuple[str, ...] = ()
    """Character, e.g. `cautious`."""
    goals: tuple[str, ...] = ()
    """What it wants."""
    skills: tuple[str, ...] = ()
    """What it can do."""
    constraints: tuple[str, ...] = ()
    """What it cannot or must not do."""
    attributes: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Named facts that a scenario reads, e.g. `{age: 41}`."""
    provenance: Literal["predefined", "model_generated", "data_derived"] = "predefined"
    """Where the profile comes from (the survey's three ways of profiling)."""
    source_ref: str | None = None
    """Row, data set or call that it was derived from."""


class ScriptedBrain(Spec):
    """A policy of the scenario. It answers in text that goes through the same parser as a model's."""

    kind: Literal["scripted"]
    policy: str
    """Name among the scenario's scripted policies."""


class StubBrain(Spec):
    """A scripted policy that errs at set rates, in place of a model of known quality."""

    kind: Literal["stub"]
    policy: str
    """Name among the scenario's scripted policies."""
    wrong: float = Field(default=0.0, ge=0, le=1)
    """Share of turns whose answer is replaced by a random legal one."""
    malformed: float = Field(default=0.0, ge=0, le=1)
    """Share of turns whose text cannot be read."""
    failing: float = Field(default=0.0, ge=0, le=1)
    """Share of turns that fail as a server would; the straggler policy follows."""


class LlmBrain(Spec):
    """A language model, asked with the scenario's prompt."""

    kind: Literal["llm"]
    model: str
    """Alias among the simulation's `models`."""
    sampling: SamplingSpec = SamplingSpec()
    """How its words are drawn."""
    steering: SteeringSpec | None = None
    """What acts inside the model for this agent; none takes the model's own. Agents with different strengths share a
    batch."""
    attempts: int = Field(default=1, ge=1, le=5)
    """Times to ask again, with the reason, when the answer cannot be read, counting the first."""


class HumanBrain(Spec):
    """A person's seat. The tick waits for the answer until the deadline."""

    kind: Literal["human"]
    deadline_s: float | None = Field(default=None, gt=0)
    """Seconds to wait; none waits without end."""
    default: str | None = None
    """Text taken when nobody answers; none takes the action's own default."""


class HybridBrain(Spec):
    """A model on some turns, a scripted policy on the others."""

    kind: Literal["hybrid"]
    llm: LlmBrain
    """The model."""
    policy: str
    """The scripted policy."""
    share: float = Field(default=1.0, ge=0, le=1)
    """Share of turns that the model decides."""
    fallback: bool = True
    """Take the policy's answer when the model's cannot be read."""


class ReviewedBrain(Spec):
    """A model whose flagged answers a person approves, changes or forbids before they count."""

    kind: Literal["reviewed"]
    llm: LlmBrain
    """The model."""
    flagged: tuple[str, ...] = ()
    """Words that flag an answer, whole and whatever their case; none flags every answer."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Seconds to wait for the person; none waits without end."""
    default: Literal["approve", "veto"] = "veto"
    """What is taken when nobody answers."""


class ArchetypeBrain(Spec):
    """A model that answers once for all agents that are alike: those whose prompts are the same, word for word.

    So the calls of a tick grow with the kinds of agents and not with their number (archetypes, after Chopra et al.,
    "On the limits of agency in agent-based models", arXiv 2409.10568).
    """

    kind: Literal["archetype"]
    llm: LlmBrain
    """The model."""
    by: tuple[ProfileField, ...] = ("role", "traits", "goals", "skills", "constraints")
    """Parts of the profile that tell archetypes apart; the others stay out of the prompt."""
    answers: int = Field(default=1, ge=1, le=1000)
    """Answers asked for each archetype at each turn. Every member draws one of them, so that many stand for the spread
    of what the model would say."""

    @model_validator(mode="after")
    def _answers_differ(self) -> ArchetypeBrain:
        if self.answers > 1 and self.llm.sampling.temperature == 0:
            raise misfit(
                "all answers at temperature 0 are the same",
                "answers",
                "llm.sampling.temperature",
                fix="set `llm.sampling.temperature`, or ask for one answer",
            )
        return self


class CustomBrain(Spec):
    """A brain of your own."""

    kind: Literal["custom"]
    name: str
    """Entry point of the group `steerline.brains`, or `module:Class`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the class."""


BrainSpec = Annotated[
    ScriptedBrain | StubBrain | LlmBrain | HumanBrain | HybridBrain | ReviewedBrain | ArchetypeBrain | CustomBrain,
    Field(discriminator="kind"),
]


def model_part(brain: BrainSpec) -> LlmBrain | None:
    """The part of a brain that asks a model; none where it asks none."""
    if isinstance(brain, HybridBrain | ReviewedBrain | ArchetypeBrain):
        return brain.llm
    return brain if isinstance(brain, LlmBrain) else None


def policy_part(brain: BrainSpec) -> str | None:
    """The scripted policy that a brain acts by, at times at least; none where it has none."""
    return brain.policy if isinstance(brain, ScriptedBrain | StubBrain | HybridBrain) else None


class NoMemory(Spec):
    """An agent that remembers nothing but what the scenario tells it."""

    kind: Literal["none"]


class WindowMemory(Spec):
    """The last records, in order."""

    kind: Literal["window"]
    size: int = Field(default=8, ge=1)
    """Records kept in the prompt."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest excerpt in the prompt, counted in words and signs."""


class RetrievalMemory(Spec):
    """Records scored by recency, importance and relevance to what is seen now (Park et al. 2023), by BM25."""

    kind: Literal["retrieval"]
    top: int = Field(default=5, ge=1)
    """Records in the prompt."""
    recency: float = Field(default=1.0, ge=0)
    """Weight of `decay ** age in ticks`."""
    importance: float = Field(default=1.0, ge=0)
    """Weight of the importance that the record was given."""
    relevance: float = Field(default=1.0, ge=0)
    """Weight of the BM25 score, scaled to 0..1."""
    decay: float = Field(default=0.95, gt=0, le=1)
    """What a tick leaves of the recency."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest excerpt in the prompt, counted in words and signs."""


class SummaryMemory(Spec):
    """A running summary, written anew by the agent's own model, and the records since."""

    kind: Literal["summary"]
    every: int = Field(default=5, ge=1)
    """Ticks between summaries."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest summary and excerpt, each, counted in words and signs."""


class BeliefMemory(Spec):
    """A table of the other agents: the last that the agent heard of each, and how often it heard of it."""

    kind: Literal["belief"]
    max_tokens: int = Field(default=256, ge=1)
    """Longest table in the prompt, counted in words and signs."""


MemorySpec = Annotated[
    NoMemory | WindowMemory | RetrievalMemory | SummaryMemory | BeliefMemory, Field(discriminator="kind")
]


class SelfEvolutionSpec(Spec):
    """Reflection: the agent proposes a change of its own profile, which is checked and logged."""

    every: int = Field(default=5, ge=1)
    """Ticks between reflections."""
    fields: tuple[ProfileField, ...] = ("goals", "traits")
    """Parts of the profile that it may rewrite."""
    policy: str | None = None
    """Scripted policy that reflects; none asks the agent's own model."""


class ImitationSpec(Spec):
    """Strategies that spread by success: pairwise comparison by the Fermi rule (Szabo and Toke 1998).

    An agent meets another at random and takes over its brain with probability `1 / (1 + exp(-intensity * d))`, where d
    is by how much the other's feedback since the last time is larger.
    """

    every: int = Field(default=1, ge=1)
    """Ticks between comparisons."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of agents that compare themselves."""
    intensity: float = Field(default=1.0, ge=0)
    """How much success counts; 0 is a coin toss."""


class AgentSpec(Spec):
    """One agent."""

    id: AgentId
    """Its name, unique in the simulation."""
    profile: Profile = Profile()
    """Who it is."""
    brain: BrainSpec
    """What decides for it."""
    memory: MemorySpec = NoMemory(kind="none")
    """What it remembers."""
    evolution: SelfEvolutionSpec | None = None
    """How it may change itself; none stays as it is."""
    spawn_quota: int = Field(default=0, ge=0)
    """How many agents it may create during the run."""


class GroupSpec(Spec):
    """Agents that are alike."""

    profile: Profile = Profile()
    """Who they are."""
    brain: BrainSpec
    """What decides for them."""
    memory: MemorySpec = NoMemory(kind="none")
    """What they remember."""
    evolution: SelfEvolutionSpec | None = None
    """How they may change themselves."""
    draws: dict[str, DistributionSpec] | None = None
    """Facts that are drawn for each of them, e.g. `{age: {kind: normal, mean: 40, std: 15, low: 18}}`; they become
    attributes."""
    traits: tuple[str, ...] | None = None
    """Drawn facts that are written out as traits (`age: 41`)."""
    bins: dict[str, Bounds] | None = None
    """Written-out numbers that are told as ranges, e.g. `{age: [18, 65]}` for `age: 18 to 65`."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the population, relative to the other groups."""

    @model_validator(mode="after")
    def _facts_are_drawn(self) -> GroupSpec:
        draws, traits = self.draws or {}, self.traits or ()
        missing = next((name for name in traits if name not in draws), None)
        if missing is not None:
            raise misfit(f"{missing} is not drawn", "traits", "draws", expected=" | ".join(draws) or "a draw")
        check_bounds(self.bins or {}, traits)
        return self


class MixedPopulation(Spec):
    """Groups in set proportions: agents are dealt to groups by largest remainder, the order is drawn from the seed."""

    kind: Literal["mix"]
    count: int = Field(ge=1)
    """Agents."""
    prefix: AgentId = "agent"
    """Agents are named `prefix-0001` and so on."""
    groups: tuple[GroupSpec, ...] = Field(min_length=1)
    """What they are made of."""


class TablePopulation(Spec):
    """One agent for each row of a table: data-derived profiles."""

    kind: Literal["table"]
    path: str
    """JSONL or CSV file."""
    count: int | None = Field(default=None, ge=1)
    """Rows taken, drawn from the seed; none takes all in order."""
    prefix: AgentId = "agent"
    """Agents are named `prefix-0001` and so on."""
    role: str | None = None
    """Column that holds the role."""
    traits: tuple[str, ...] = ()
    """Columns that are written out as traits (`age: 41`)."""
    bins: dict[str, Bounds] | None = None
    """Traits that are told as ranges, e.g. `{age: [18, 65]}` for `age: 18 to 65`."""
    attributes: tuple[str, ...] = ()
    """Columns that become attributes."""
    brain: BrainSpec
    """What decides for them."""
    memory: MemorySpec = NoMemory(kind="none")
    """What they remember."""

    @model_validator(mode="after")
    def _ranges_fit(self) -> TablePopulation:
        check_bounds(self.bins or {}, self.traits)
        return self


class GeneratedPopulation(Spec):
    """Profiles that a model writes. Its calls are journaled like an agent's."""

    kind: Literal["generated"]
    count: int = Field(ge=1)
    """Agents."""
    prefix: AgentId = "agent"
    """Agents are named `prefix-0001` and so on."""
    model: str
    """Alias among the simulation's `models`."""
    prompt: str = "Invent a person for a simulation of {scenario}. Person {index} of {count}."
    """What the model is asked, once for each agent."""
    sampling: SamplingSpec = SamplingSpec(temperature=1.0)
    """How its words are drawn."""
    brain: BrainSpec
    """What decides for them."""
    memory: MemorySpec = NoMemory(kind="none")
    """What they remember."""

    @model_validator(mode="after")
    def _prompt_can_be_filled(self) -> GeneratedPopulation:
        try:
            self.prompt.format(scenario="", index=0, count=0)
        except (KeyError, IndexError, ValueError) as error:
            raise misfit(
                "the prompt names something that is not known", "prompt", expected="{scenario}, {index} and {count}"
            ) from error
        return self


PopulationSpec = Annotated[MixedPopulation | TablePopulation | GeneratedPopulation, Field(discriminator="kind")]
