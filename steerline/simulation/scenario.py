"""What a scenario is: a world with rules, pure and snapshot based.

A scenario owns no agent, asks no model and keeps nothing between calls: every method is a function of its arguments
and of `self.params`. The state is plain data (JSON values and numpy arrays) and is never changed in place. So the
engine can ask all agents about the same snapshot, go on from any tick, and rebuild a run from its recorded actions.

To write one, copy `steerline/simulation/scenarios/public_goods.py`; docs/simulation.md explains it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from steerline.config.base import Spec
from steerline.config.simulation_agents import Profile
from steerline.errors import SimulationError
from steerline.simulation import parsing
from steerline.simulation.action import Action, ActionSpec, Parsed
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation, Prompt
from steerline.simulation.prompting import compose
from steerline.simulation.rng import CounterRng

if TYPE_CHECKING:
    from steerline.config.simulation import SimulationSpec
    from steerline.simulation.oracle import Oracle

State = Any
"""Plain data: JSON values and numpy arrays."""

Policy = Callable[[Observation, Profile, CounterRng], str]
"""A scripted brain: what it sees, who it is and its own draws, to the text that it answers."""

P = TypeVar("P", bound=Spec)


@dataclass(frozen=True, slots=True)
class Seat:
    """An agent as the scenario knows it: no brain, no memory."""

    id: str
    profile: Profile = field(default_factory=Profile)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What an agent is told about how it did."""

    source: Literal["environment", "agent", "human", "none"]
    target: str
    """The agent."""
    value: float | None = None
    """A reward, in the scenario's own unit."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Spawn:
    """An agent that another one creates. It has its creator's brain and memory policy, and a quota of none."""

    parent: str
    """Who creates it; its quota must allow it, or the spawn is refused with an event."""
    seat: Seat
    policy: str | None = None
    """Scripted policy in place of the creator's brain."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the actions of a round led to."""

    state: State
    events: Sequence[Mapping[str, Any]] = ()
    """What happened in the world, each as plain data; logged as `env.changed`."""
    feedback: Sequence[Feedback] = ()
    messages: Sequence[Draft] = ()
    """What was said. The engine routes it; it arrives in the next round or tick."""
    again: bool = False
    """Whether the tick has another sub-round (a conversation before the move)."""
    spawned: Sequence[Spawn] = ()
    """Agents that actions created; those that are let in reach the world through `joined`."""
    retired: Sequence[str] = ()
    """Agents that leave the simulation."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The cells of the survey's table (Guo et al. 2024, table 1) that a scenario fills."""

    domain: str
    """The survey's row, e.g. `economy`."""
    interface: frozenset[Literal["sandbox", "physical", "none"]]
    profiling: frozenset[Literal["predefined", "model_generated", "data_derived"]]
    paradigm: frozenset[Literal["cooperative", "debate", "competitive"]]
    structure: frozenset[Literal["layered", "centralised", "decentralised", "pool"]]
    feedback: frozenset[Literal["environment", "agents", "human", "none"]]
    adjustment: frozenset[Literal["memory", "self_evolution", "dynamic_generation"]] = field(default_factory=frozenset)


class Scenario(ABC, Generic[P]):
    """Base of all scenarios.

    Args:
        params: the scenario's own settings, validated.
    """

    Params: ClassVar[type[Spec]]
    """The class of `params`."""
    coverage: ClassVar[Coverage]
    """The cells of the survey's table that it fills."""
    scripted: ClassVar[Mapping[str, Policy]]
    """Scripted brains by name, at least three. A policy answers in text that is parsed as a model's is."""
    takes_turns: ClassVar[bool] = True
    """Whether its actors may move one after another, so that `resolve` gets one action at a time."""

    def __init__(self, params: P) -> None:
        self.params = params

    @abstractmethod
    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        """The world at tick 0. `rng` gives its draws (roles, tastes, networks).

        Raises:
            SimulationError: the scenario cannot be played by these agents.
        """

    @abstractmethod
    def who_acts(self, state: State) -> Sequence[str]:
        """The agents that decide in this round, in the order of their turns where turns are taken."""

    @abstractmethod
    def observe(self, state: State, agent: str) -> Observation:
        """What an agent sees and may do. Facts that belong to others must not be in it."""

    @abstractmethod
    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        """What the actions lead to. They come in order of agent ids; settle conflicts by keyed draws of `rng`."""

    def settled(self, state: State, rng: CounterRng) -> Resolution:
        """What the end of a tick's moves leads to, `again` aside: where actors take turns, their round is over."""
        return Resolution(state)

    @abstractmethod
    def done(self, state: State) -> bool:
        """Whether the world has ended."""

    @abstractmethod
    def metrics(self, state: State) -> Mapping[str, float]:
        """Named numbers about the world, recorded after each tick."""

    @abstractmethod
    def rules(self) -> str:
        """The rules in words, the same for every agent: the beginning of every prompt."""

    @classmethod
    @abstractmethod
    def oracles(cls) -> Sequence[Oracle]:
        """What theory says about scripted runs, exactly; tests hold the engine to it."""

    def prompt(self, observation: Observation, profile: Profile) -> Prompt:
        """What a model is asked: rules and profile first, then memory, messages, what it sees and what it may do."""
        return compose(self.rules(), observation, profile)

    def parse(self, text: str, spec: ActionSpec) -> Parsed:
        """Read an answer; see `steerline.simulation.parsing.parse`."""
        return parsing.parse(text, spec)

    def outcome(self, state: State) -> Mapping[str, Any]:
        """The result as plain data: what a transcript says about the run's question, answer and correctness."""
        return dict(self.metrics(state))

    def vote(self, spec: SimulationSpec, voters: int) -> SimulationSpec | None:
        """The same question put once to so many agents that never talk; none where there is no question to vote on."""
        return None

    def joined(self, state: State, seat: Seat, rng: CounterRng) -> State:
        """The world after an agent came in."""
        raise SimulationError(f"{type(self).__name__} takes no new agents", where=f"agent {seat.id}")

    def left(self, state: State, agent: str) -> State:
        """The world after an agent went away."""
        raise SimulationError(f"{type(self).__name__} lets no agent go", where=f"agent {agent}")
