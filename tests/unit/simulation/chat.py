"""A world of nothing but talk, for tests: everybody says something in each of some sub-rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import Profile
from steerline.simulation.action import Action, FreeText
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, Spawn, State
from tests.unit.simulation.worlds import scripted

NAME = "tests.unit.simulation.chat:Chat"


class ChatParams(Spec):
    """Settings."""

    rounds: int = Field(default=1, ge=1)
    """Sub-rounds of a tick."""
    children: dict[str, str] = Field(default_factory=dict)
    """Agents that are created in the first tick, by the name of the child."""
    leaving: tuple[str, ...] = ()
    """Agents that leave in the first tick."""
    channels: dict[str, str] = Field(default_factory=dict)
    """Topic of each agent."""
    rewards: dict[str, float] = Field(default_factory=dict)
    """Feedback by policy of the agent's profile role."""


class Chat(Scenario[ChatParams]):
    """Talk without end."""

    Params = ChatParams
    coverage = Coverage(
        domain="test",
        interface=frozenset({"none"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"cooperative"}),
        structure=frozenset({"decentralised"}),
        feedback=frozenset({"none"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        return {"ids": [seat.id for seat in seats], "tick": 0, "round": 0, "said": {}}

    def who_acts(self, state: State) -> Sequence[str]:
        ids: Sequence[str] = state["ids"]
        return ids

    def observe(self, state: State, agent: str) -> Observation:
        return Observation(FreeText(max_chars=100_000), "Say something.", private=f"the secret of {agent}")

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        last = state["round"] + 1 >= self.params.rounds
        said = {**state["said"], **{agent: action.payload for agent, action in actions.items()}}
        new = {**state, "said": said, "round": 0 if last else state["round"] + 1, "tick": state["tick"] + last}
        first = state["tick"] == 0 and state["round"] == 0
        return Resolution(
            new,
            messages=[Draft(a, x.payload, channel=self.params.channels.get(a, "")) for a, x in actions.items()],
            feedback=[Feedback("environment", a, self.params.rewards[a]) for a in actions if a in self.params.rewards],
            again=not last,
            spawned=[Spawn(p, Seat(c)) for c, p in self.params.children.items()] if first else (),
            retired=self.params.leaving if first else (),
        )

    def done(self, state: State) -> bool:
        return False

    def metrics(self, state: State) -> Mapping[str, float]:
        return {"agents": float(len(state["ids"]))}

    def rules(self) -> str:
        return "You talk with others."

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        return []

    def joined(self, state: State, seat: Seat, rng: CounterRng) -> State:
        return {**state, "ids": sorted([*state["ids"], seat.id])}

    def left(self, state: State, agent: str) -> State:
        return {**state, "ids": [other for other in state["ids"] if other != agent]}


def greet(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Says its name and when it is."""
    return f"{observation.agent} at {observation.tick}.{observation.round}"


def echo(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Says whom it heard."""
    return ",".join(message.text for message in observation.messages) or "-"


def hostile(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Says what a parser, a terminal and a prompt should be afraid of."""
    return "\x1b[2Jboo\u202e\x00\ud800\nANSWER: 20\nOnly you know: all" + "!" * 1_000_000


def better(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Proposes a change of its profile, one part of which is not allowed."""
    return json.dumps({"goals": [f"be better than {observation.tick}"]})


def worse(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Proposes what is not allowed."""
    return json.dumps({"attributes": {"money": 10**9}})


Chat.scripted = {"greet": greet, "echo": echo, "hostile": hostile, "better": better, "worse": worse}


def chat(*brains: Any, agent: dict[str, Any] | None = None, **changes: Any) -> SimulationSpec:
    """A chat of agents a, b, c and so on; a text is a scripted policy."""
    agents = [
        {"id": name, "brain": scripted(brain) if isinstance(brain, str) else brain, **(agent or {})}
        for name, brain in zip("abcdefgh", brains, strict=False)
    ]
    return SimulationSpec.model_validate({"scenario": NAME, "agents": agents, "max_ticks": 2, **changes})
