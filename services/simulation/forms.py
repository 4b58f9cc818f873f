"""What requests about simulations say, and what answers to them hold."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, JsonValue, ValidationInfo, model_validator

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentId, AgentSpec
from steerline.config.steering import SteeringSpec
from steerline.simulation.canonical import ARRAY_KEY

SimId = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]
Stored = Literal["created", "running", "paused", "waiting", "ended", "stopped", "failed"]
Status = Literal["created", "queued", "running", "paused", "waiting", "ended", "stopped", "failed"]


class Form(Spec):
    """A request's body. What stands in it can be kept: what is read as JSON may be texts that are none, numbers without
    end, and the log's own arrays."""

    @model_validator(mode="before")
    @classmethod
    def _can_be_kept(cls, form: Any) -> Any:
        spelled = json.dumps(form, ensure_ascii=False, allow_nan=False, default=str)
        if f'"{ARRAY_KEY}":' in spelled:
            raise ValueError(f"the name {ARRAY_KEY} is not allowed")
        try:
            spelled.encode()
        except UnicodeEncodeError as error:
            raise ValueError("half of a surrogate pair is no text") from error
        return form


class ModelUse(Spec):
    """A served model as a simulation uses it."""

    model: str
    """Its name at this endpoint (`GET /v1/models`)."""
    steering: SteeringSpec | None = None
    """What acts inside it for agents that bring no steering of their own."""
    prompt_price: float = Field(default=0.0, ge=0)
    """Cost of a million prompt tokens."""
    completion_price: float = Field(default=0.0, ge=0)
    """Cost of a million completion tokens."""


class SimulationForm(Form, SimulationSpec):
    """A simulation to be played. Agents may name served models without listing them in `models`."""

    models: dict[str, ModelUse] = Field(default_factory=dict)  # type: ignore[assignment]
    """Models by alias: `{"model": "<served name>"}`, or the name alone."""

    @model_validator(mode="before")
    @classmethod
    def _models_may_be_names(cls, form: Any) -> Any:
        if not isinstance(form, dict):
            return form
        listed = form.get("models")
        if listed is not None and not isinstance(listed, dict):
            return form
        models = {alias: {"model": use} if isinstance(use, str) else use for alias, use in (listed or {}).items()}
        named = {name: {"model": name} for name in _named_models(form.get("agents"), form.get("population"))}
        return {**form, "models": {**named, **models}}

    def spec(self) -> SimulationSpec:
        """As the engine takes it."""
        fields = self.model_dump(exclude={"models"})
        models = {
            alias: {
                "backend": {"kind": "served", "name": use.model},
                **use.model_dump(exclude={"model"}),
            }
            for alias, use in self.models.items()
        }
        return SimulationSpec.model_validate({**fields, "models": models})


def _named_models(*places: Any) -> list[str]:
    """Aliases that brains in a form name, wherever they stand."""
    found: list[str] = []
    open_ = list(places)
    while open_:
        place = open_.pop(0)
        if isinstance(place, list | tuple):
            open_ += place
        elif isinstance(place, dict):
            asks = place.get("kind") in ("llm", "generated") and isinstance(place.get("model"), str)
            found += [place["model"]] if asks else []
            open_ += [item for item in place.values() if isinstance(item, dict | list | tuple)]
    return list(dict.fromkeys(found))


class SimulationView(BaseModel):
    """A simulation as it stands."""

    id: str
    name: str
    scenario: str
    status: Status
    """`queued` is to be played and is not being played yet; `waiting` waits for a person."""
    reason: str
    """Why it stands still or has ended."""
    tick: int
    """Ticks played."""
    max_ticks: int
    seed: int
    events: int
    """Number of the last event."""
    hash: str
    """Of the last event: equal hashes are equal histories."""
    created: float
    """Seconds since 1970."""


class SimulationDetail(SimulationView):
    """A simulation with all that it was made of and what happened to its run."""

    spec: dict[str, Any]
    """The resolved spec; `served` backends are models of this endpoint."""
    operations: list[OperationView]
    """The last 200 things that happened to the run and not in its world: pauses, handovers, recordings."""


class OperationView(BaseModel):
    """Something that happened to a run."""

    time: float
    """Seconds since 1970."""
    kind: str
    payload: dict[str, Any]


class SimulationPage(BaseModel):
    """Simulations, the newest first."""

    data: list[SimulationView]
    next: str | None
    """What `cursor` is for the next page; null after the last one."""


class PauseForm(Form):
    """Why."""

    reason: str = Field(default="somebody paused it", max_length=500)


class StepForm(Form):
    """How far."""

    ticks: int = Field(default=1, ge=1, le=1_000_000)
    """Ticks to play."""


class InjectForm(Form):
    """What comes into the world from outside before its next tick."""

    message: str | None = Field(default=None, max_length=20_000)
    """What agents are told, by `environment`."""
    recipients: tuple[AgentId, ...] | None = None
    """Who is told; none is all."""
    state: dict[str, JsonValue] | None = None
    """Fields of the scenario's state and their new values, of the kinds that stand there."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.message is None and self.state is None:
            raise ValueError("nothing is injected: give `message`, `state` or both")
        return self


class InterviewForm(Form):
    """What an agent is asked beside the game."""

    question: str = Field(min_length=1, max_length=20_000)
    remember: bool = False
    """Write question and answer into the agent's memory; otherwise it is asked on a copy of what it knows."""


class SteeringForm(Form):
    """How an agent's model is steered from the next tick on. Give one of the two."""

    strength: float | None = Field(default=None, ge=0, le=100)
    """Moves the boost, or the residual scales where there is no boost; 0 is the plain model."""
    steering: SteeringSpec | None = None
    """Takes the place of all there is; null is the plain model."""

    @model_validator(mode="after")
    def _one(self, info: ValidationInfo) -> Self:  # noqa: ARG002
        if (self.strength is None) == ("steering" not in self.model_fields_set):
            raise ValueError("give `strength` or `steering`")
        return self


class ForkForm(Form):
    """How another simulation goes on from here."""

    at: int = Field(ge=1)
    """Ticks that both share."""
    agents: dict[str, AgentSpec] = Field(default_factory=dict)
    """Agents that are different from there on, by id: another brain, steering, profile or memory."""
    name: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$")
    """What people call it; by default `<name>-fork-at-<tick>`, after the one that it comes from."""
    start: bool = True
    """Play it at once."""


class AnswerForm(Form):
    """A person's answer."""

    text: str = Field(max_length=20_000)
    """As the question's instruction says."""


class ControlView(BaseModel):
    """A control that was taken in; it comes into effect before the next tick."""

    id: str
    """Events that it brings carry it: `control.applied`, or `control.refused` where it does not fit the world."""
    simulation: SimulationView


class QuestionView(BaseModel):
    """What a person is asked."""

    id: str
    agent: str
    tick: int
    question: str
    instruction: str
    """What may be answered."""
    deadline: float | None
    """Seconds since 1970 after which the default is taken."""
    default: str | None


class AnswerView(BaseModel):
    """What became of an answer."""

    question: str
    simulation: SimulationView


class StateView(BaseModel):
    """A world after a tick."""

    tick: int
    ended: str | None
    """Why the world has ended."""
    state: Any
    """The scenario's. Long arrays are shown by kind and shape."""
    agents: list[dict[str, Any]]
    """The living: profiles and brains as they are then."""


class MetricsView(BaseModel):
    """The scenario's numbers after each tick."""

    ticks: list[int]
    metrics: dict[str, list[float | None]]
    """By name, one for each of `ticks`; null where a tick gave none."""


class RecordView(BaseModel):
    """One thing that an agent remembers."""

    tick: int
    kind: str
    text: str
    about: str


class MemoryView(BaseModel):
    """What an agent remembers."""

    agent: str
    tick: int
    records: list[RecordView]


class EdgeView(BaseModel):
    """Who told whom."""

    sender: str
    receiver: str
    messages: int


class GraphView(BaseModel):
    """The communication graph."""

    nodes: list[str]
    edges: list[EdgeView]


class ComparisonView(BaseModel):
    """Two simulations side by side."""

    first: SimulationView
    second: SimulationView
    differ_at: int | None
    """The first tick after which their worlds differ; null if they are equal as far as both go."""
    metrics: dict[str, list[list[float | None]]]
    """By name, the two series over the ticks of the longer one."""


class PolicyView(BaseModel):
    """A scripted policy."""

    name: str
    about: str


class ScenarioView(BaseModel):
    """A scenario that may be played."""

    name: str
    about: str
    policies: list[PolicyView]


class ScenarioPage(BaseModel):
    """The scenarios."""

    data: list[ScenarioView]


class ScenarioDetail(ScenarioView):
    """A scenario with all that a form needs."""

    params: dict[str, Any]
    """JSON schema of its own settings."""
    form: dict[str, Any]
    """JSON schema of a whole simulation, as `POST /v1/simulations` takes it."""
    example: dict[str, Any] | None
    """A small simulation of it, complete."""


class ExperimentForm(Form):
    """Many simulations: every combination of a grid, with every seed."""

    name: str = Field(default="experiment", pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$")
    simulation: SimulationForm
    """What is played."""
    grid: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)
    """Dotted paths of the simulation and the values that each takes, e.g. `params.rounds: [1, 3]`."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Each combination is played once with each of these; none takes the simulation's own."""


class ExperimentView(BaseModel):
    """An experiment."""

    id: str
    name: str
    simulations: int


class IntervalView(BaseModel):
    """A mean over seeds."""

    mean: float
    low: float | None
    """Of the 95 % interval: Student's below 20 seeds, the percentile bootstrap's from there; null for a single one."""
    high: float | None
    n: int


class PointView(BaseModel):
    """One combination of the grid."""

    values: dict[str, Any]
    simulations: list[str]
    states: dict[str, int]
    metrics: dict[str, IntervalView]
    """The scenario's last numbers, over the seeds that have ended."""


class ExperimentDetail(ExperimentView):
    """An experiment with what came of it so far."""

    grid: dict[str, list[JsonValue]]
    """Its factors: dotted paths of the simulation and the values that each takes."""
    seeds: list[int]
    """Each combination is played once with each of these."""
    stopped: bool
    """Whether somebody stopped it: what had not been made by then never is."""
    states: dict[str, int]
    """How many simulations stand how."""
    points: list[PointView]


class ExperimentPage(BaseModel):
    """Experiments, the newest first."""

    data: list[ExperimentView]
    next: str | None
    """What `cursor` is for the next page; null after the last one."""
