"""The fishery: a lake that feeds a village for ever, or not for long. Villagers talk, then each decides on a catch.

Rules after GovSim, Piatti et al., "Cooperate or Collapse: Emergence of Sustainable Cooperation in a Society of LLM
Agents" (2024). Each month the villagers may catch what is in the lake; where they want more than that, boats are served
in random order. What is left multiplies by `growth`, up to the lake's capacity. Below a lowest stock the lake is dead
and the game over. The stock keeps itself as long as no more than `h(1 - 1 / growth)` is taken of a stock h.

One tick is one month: sub-rounds of talk, then the catch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import Field

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action, FreeText, Integer
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.fishery_theory import fate_of_random_fishers, most_wanted, needed, regrown
from steerline.simulation.scenarios.inequality import gini
from steerline.simulation.scenarios.together import require_all

SILENCE = "I say nothing."


class FisheryParams(Spec):
    """Settings of the fishery."""

    months: int = Field(default=12, ge=1)
    """Months, one a tick."""
    capacity: int = Field(default=100, ge=1)
    """Tons of fish that the lake can hold, and holds at first."""
    growth: float = Field(default=2.0, gt=1)
    """What the fish left over multiply by until the next month."""
    lowest: int = Field(default=5, ge=1)
    """Tons below which the lake is dead."""
    talks: int = Field(default=1, ge=0)
    """Sub-rounds of talk before each catch."""
    hint: bool = True
    """Whether villagers are told what each can catch for the lake to last (the paper's universalisation)."""


class Fishery(Scenario[FisheryParams]):
    """The fishery, with talk before each catch."""

    Params = FisheryParams
    takes_turns = False
    coverage = Coverage(
        domain="society",
        interface=frozenset({"sandbox"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"cooperative", "competitive"}),
        structure=frozenset({"decentralised"}),
        feedback=frozenset({"environment", "agents"}),
        adjustment=frozenset({"memory"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        if len(seats) < 2:
            raise SimulationError("a common lake needs others", got=len(seats), expected="at least 2 agents")
        ids = [seat.id for seat in seats]
        return {
            "agents": ids,
            "month": 0,
            "talked": 0,  # sub-rounds of talk in this month
            "stock": self.params.capacity,
            "caught": {},  # last month, by villager
            "earned": dict.fromkeys(ids, 0),
            "decisions": 0,
            "excessive": 0,  # decisions for more than a fair part of what the lake can spare
        }

    def who_acts(self, state: State) -> Sequence[str]:
        agents: Sequence[str] = state["agents"]
        return agents

    def observe(self, state: State, agent: str) -> Observation:
        stock, caught = state["stock"], state["caught"]
        facts = {
            "stage": "talk" if state["talked"] < self.params.talks else "catch",
            "stock": stock,
            "villagers": len(state["agents"]),
            "sustainable": self._sustainable(state),
            "caught": caught,
        }
        catches = ", ".join(f"{one} {tons}" for one, tons in caught.items())
        before = f"Caught last month, in tons: {catches}.\n" if caught else ""
        world = f"{before}Month {state['month'] + 1} of {self.params.months}. There are {stock} tons in the lake."
        if self.params.hint:
            world += f" It lasts if the {facts['villagers']} of you catch at most {facts['sustainable']} tons each."
        if facts["stage"] == "talk":
            return Observation(FreeText(), f"{world}\nSay in one sentence how much each should catch.", facts=facts)
        return Observation(Integer(0, stock, default=0), f"{world}\nHow many tons do you catch?", facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        require_all(actions, self.who_acts(state))
        if state["talked"] < self.params.talks:
            said = [Draft(agent, action.payload) for agent, action in actions.items() if action.payload]
            return Resolution({**state, "talked": state["talked"] + 1}, messages=said, again=True)
        wanted = {agent: actions[agent].payload if agent in actions else 0 for agent in state["agents"]}
        caught = self._served(wanted, state["stock"], rng)
        left = state["stock"] - sum(caught.values())
        fair = self._sustainable(state)
        new = {
            **state,
            "month": state["month"] + 1,
            "talked": 0,
            "stock": regrown(left, self.params.growth, self.params.capacity),
            "caught": caught,
            "earned": {agent: earned + caught[agent] for agent, earned in state["earned"].items()},
            "decisions": state["decisions"] + len(wanted),
            "excessive": state["excessive"] + sum(tons > fair for tons in wanted.values()),
        }
        feedback = [Feedback("environment", agent, tons) for agent, tons in caught.items()]
        return Resolution(new, [{"wanted": wanted, "caught": caught, "left": left}], feedback)

    def done(self, state: State) -> bool:
        return bool(state["month"] >= self.params.months or not self._is_alive(state))

    def metrics(self, state: State) -> Mapping[str, float]:
        """Survival, gain, efficiency, equality and over-usage as the paper defines them."""
        p, earned = self.params, list(state["earned"].values())
        # All that can be taken in all months while the lake stays full.
        most = p.months * (p.capacity - needed(p.capacity, p.growth))
        return {
            "stock": float(state["stock"]),
            "survived": float(state["month"]),
            "mean_gain": fmean(earned),
            "efficiency": 1 - max(0.0, most - sum(earned)) / most,
            "equality": 1 - gini(earned),
            "over_usage": state["excessive"] / state["decisions"] if state["decisions"] else 0.0,
        }

    def rules(self) -> str:
        p = self.params
        return (
            f"You live with others at a lake with up to {p.capacity} tons of fish. Each month everybody says how many"
            f" tons to catch. A ton is worth 1000 dollars to you. What is left in the lake multiplies by {p.growth:g}"
            f" until the next month, up to {p.capacity} tons. With less than {p.lowest} tons the lake is dead and"
            f" nobody can catch anything any more. You want to earn much over {p.months} months."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        return {**self.metrics(state), "collapsed": not self._is_alive(state), "earned": state["earned"]}

    def _is_alive(self, state: State) -> bool:
        return bool(state["stock"] >= self.params.lowest)

    def _sustainable(self, state: State) -> int:
        """Tons that each can take for the stock to stay as it is."""
        stock: int = state["stock"]
        return (stock - needed(stock, self.params.growth)) // len(state["agents"])

    def _served(self, wanted: Mapping[str, int], stock: int, rng: CounterRng) -> dict[str, int]:
        """What each gets: what it wants, until nothing is left."""
        caught = {}
        for agent in rng.shuffled(list(wanted), "boats"):
            caught[agent] = min(wanted[agent], stock)
            stock -= caught[agent]
        return {agent: caught[agent] for agent in wanted}

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        village = "abcde"
        p = FisheryParams()
        slow, fast = (
            fate_of_random_fishers(
                len(village), greed, months=p.months, capacity=p.capacity, growth=p.growth, lowest=p.lowest
            )
            for greed in (1.0, 1.5)
        )
        source = "the Markov chain of the stock under sums of uniform catches"
        return [
            Oracle(
                "the sustainable catch lasts for ever",
                game([(name, "sustainable") for name in village]),
                lambda result: result.outcome["efficiency"],
                exact=1.0,
                source="a stock h keeps itself when h (1 - 1 / growth) is taken",
            ),
            Oracle(
                "where all want all, all have an equal chance",
                game([(name, "greedy") for name in village]),
                lambda result: result.outcome["earned"]["a"],
                exact=p.capacity / len(village),
                source="boats are served in random order",
                seeds=100,
            ),
            Oracle(
                "random fishers: their catch",
                game([(name, "random") for name in village], talks=0),
                lambda result: result.outcome["mean_gain"],
                exact=slow.gain,
                source=source,
            ),
            Oracle(
                "reckless random fishers: the life of the lake",
                game([(name, "random") for name in village], greed=1.5, talks=0),
                lambda result: result.outcome["survived"],
                exact=fast.months,
                source=source,
            ),
        ]


def game(players: Sequence[tuple[str, str]], greed: float = 1.0, **params: Any) -> SimulationSpec:
    """A village of scripted fishers, each an id and a policy; `greed` is an attribute of the random ones."""
    agents = tuple(
        AgentSpec(
            id=name, profile=Profile(attributes={"greed": greed}), brain=ScriptedBrain(kind="scripted", policy=policy)
        )
        for name, policy in players
    )
    return SimulationSpec(scenario="fishery", params=params, agents=agents, max_ticks=FisheryParams(**params).months)


def sustainable(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Proposes and catches what the lake can spare."""
    return _proposal(observation) if _talks(observation) else answer(observation.facts["sustainable"])


def greedy(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Keeps its plans to itself and wants all."""
    return SILENCE if _talks(observation) else answer(observation.facts["stock"])


def deceiver(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Proposes what the lake can spare, and catches twice as much."""
    facts = observation.facts
    return _proposal(observation) if _talks(observation) else answer(min(facts["stock"], 2 * facts["sustainable"]))


def covenant(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Catches the least that anybody proposed, and what the lake can spare where nobody did."""
    if _talks(observation):
        return _proposal(observation)
    proposed = [int(tons[0]) for message in observation.messages if (tons := re.findall(r"\b\d{1,6}\b", message.text))]
    return answer(min([observation.facts["sustainable"], *proposed]))


def imitator(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Catches what the lake can spare at first, and then as much as the greediest did last month."""
    if _talks(observation):
        return _proposal(observation)
    facts = observation.facts
    return answer(min(facts["stock"], max(facts["caught"].values(), default=facts["sustainable"])))


def random_fisher(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Wants anything up to `greed` times an equal part of the stock (attribute, 1), all amounts equally likely."""
    if _talks(observation):
        return SILENCE
    facts = observation.facts
    top = most_wanted(facts["stock"], facts["villagers"], float(profile.attributes.get("greed", 1.0)))
    return answer(rng.integer(0, top, "catch"))


Fishery.scripted = {
    "sustainable": sustainable,
    "greedy": greedy,
    "deceiver": deceiver,
    "covenant": covenant,
    "imitator": imitator,
    "random": random_fisher,
}


def _talks(observation: Observation) -> bool:
    return bool(observation.facts["stage"] == "talk")


def _proposal(observation: Observation) -> str:
    return f"Let each of us catch at most {observation.facts['sustainable']} tons."
