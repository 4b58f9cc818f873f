"""How a simulation is carried out: models, ticks, limits, what is kept, what happens between ticks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from steerline.config.base import NOT_IDENTITY, Spec, misfit
from steerline.config.inference import LocalBackendSpec, NoisyBackendSpec, OpenAIBackendSpec, ServedBackendSpec
from steerline.config.simulation_agents import AgentId
from steerline.config.steering import SteeringSpec


class ModelRef(Spec):
    """A model that agents name by its alias."""

    backend: Annotated[
        LocalBackendSpec | OpenAIBackendSpec | NoisyBackendSpec | ServedBackendSpec, Field(discriminator="kind")
    ]
    """Where it answers."""
    revision: str = ""
    """Version, part of the address of every call; set it when an endpoint changes its model under the same name."""
    steering: SteeringSpec | None = None
    """What acts inside the model for agents that bring no steering of their own."""
    prompt_price: float = Field(default=0.0, ge=0)
    """Cost of a million prompt tokens."""
    completion_price: float = Field(default=0.0, ge=0)
    """Cost of a million completion tokens."""
    parameters: float | None = Field(default=None, gt=0, json_schema_extra=NOT_IDENTITY)
    """Weights that act on a token, for an estimate of the work (`efficiency/flops`); none counts those of a local
    model."""


EngineMode = Literal["simultaneous", "sequential", "event"]
"""All actors decide on the same snapshot; one after another, each on what the one before left; or only those that
were sent a message or that the scenario wakes."""


class StragglerSpec(Spec):
    """What happens to a turn that is not answered in time, or whose brain fails."""

    policy: Literal["wait", "default", "late"] = "wait"
    """Wait for ever and pause the run on a failure; take the action's default, with an event; or let the answer act in
    the next tick and take the default now."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Seconds that a turn may take; none has no limit."""

    @model_validator(mode="after")
    def _late_is_later_than_something(self) -> StragglerSpec:
        if self.policy == "late" and self.timeout_s is None:
            raise misfit("nothing is late without a time", "policy", "timeout_s", fix="set `timeout_s`")
        return self


class BudgetSpec(Spec):
    """Limits, checked before a call is sent. Reaching one pauses the run; raised limits let it go on."""

    max_calls: int | None = Field(default=None, ge=1)
    """Model calls."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Prompt and completion tokens together."""
    max_cost: float | None = Field(default=None, gt=0)
    """Cost, in the unit of the models' prices."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Seconds that ticks have taken, over all attempts."""
    max_calls_per_tick: int | None = Field(default=None, ge=1)
    """Model calls in one tick."""

    @model_validator(mode="after")
    def _a_tick_fits_into_the_whole(self) -> BudgetSpec:
        if self.max_calls is not None and (self.max_calls_per_tick or 0) > self.max_calls:
            raise misfit(
                "a tick may make more calls than the whole run",
                "max_calls_per_tick",
                "max_calls",
                expected=f"at most {self.max_calls}",
            )
        return self


class DurabilitySpec(Spec):
    """What is on the disk, and when."""

    sync: bool = True
    """A committed tick survives a power cut (fsync); off survives a killed process only."""
    together_ms: float = Field(default=20.0, ge=0)
    """Where agents follow scripts alone, ticks that are over within this time are committed together, in one
    transaction; nobody sees one before. 0 commits each by itself."""
    snapshot_every: int = Field(default=10, ge=1)
    """Ticks between snapshots, which only make resuming faster."""
    call_chunk: int = Field(default=16, ge=1)
    """Completed model calls that are written together, before the tick commits."""


class LiveReplay(Spec):
    """Ask the models, and record."""

    kind: Literal["live"]


class StrictReplay(Spec):
    """Answer every call from the journal. A call that is missing or differs is an error with a diff, never a call."""

    kind: Literal["strict"]


class HybridReplay(Spec):
    """Answer from the journal up to a tick, ask the models from there: a fork."""

    kind: Literal["hybrid"]
    until: int = Field(ge=0)
    """First tick that is live."""


class CacheReplay(Spec):
    """Answer a call from any simulation's journal that holds the same request; ask the model otherwise."""

    kind: Literal["cache"]
    sampled: bool = False
    """Also at temperatures above 0, where equal answers correlate the agents."""


ReplaySpec = Annotated[LiveReplay | StrictReplay | HybridReplay | CacheReplay, Field(discriminator="kind")]


class InjectStep(Spec):
    """A message to agents, or a change of the scenario's state, from outside."""

    kind: Literal["inject"]
    at: int = Field(ge=0)
    """Tick before which it happens."""
    message: str | None = None
    """Text of a message from `environment`."""
    recipients: tuple[AgentId, ...] | None = None
    """Agents that receive it; none is all."""
    state: dict[str, Any] | None = None
    """Fields of the scenario's state that are set."""

    @model_validator(mode="after")
    def _says_something(self) -> InjectStep:
        if self.message is None and self.state is None:
            raise misfit("nothing is injected", "message", "state", fix="set `message`, `state` or both")
        return self


class InterviewStep(Spec):
    """A question to agents, on a copy of what they know."""

    kind: Literal["interview"]
    at: int = Field(ge=0)
    """Tick before which it is asked."""
    question: str
    """The question."""
    agents: tuple[AgentId, ...] | None = None
    """Who is asked; none is all."""
    remember: bool = False
    """Write question and answer into the agents' memory."""


class SurveyStep(Spec):
    """A question with set answers to a sample of the agents, on a copy of what they know."""

    kind: Literal["survey"]
    at: int = Field(ge=0)
    """Tick before which it is asked."""
    question: str
    """The question."""
    options: tuple[str, ...] = Field(min_length=2)
    """The answers to choose from."""
    sample: int | None = Field(default=None, ge=1)
    """Agents asked, drawn from the seed; none is all."""


class PauseStep(Spec):
    """A pause, until somebody resumes the run."""

    kind: Literal["pause"]
    at: int = Field(ge=0)
    """Tick before which it pauses."""


WorkflowStep = Annotated[InjectStep | InterviewStep | SurveyStep | PauseStep, Field(discriminator="kind")]
