"""The public goods game: what is put into a common pot is multiplied and shared by all, giver or not.

Rules after Fehr and Gaechter, "Cooperation and Punishment in Public Goods Experiments", AER 90 (2000). Each round every
one of N players splits an endowment e between herself and the pot. Her payoff is `e - c_i + m * sum_j c_j` with the
marginal return m: for m < 1 giving nothing is dominant, for N m > 1 all are best off when everybody gives all. With
`punishment`, a second sub-round lets players take points off others, at a cost to themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import correlation, fmean, linear_regression
from typing import Any

from pydantic import Field

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action, Integer, Structured
from steerline.simulation.canonical import canonical
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.inequality import gini
from steerline.simulation.scenarios.together import require_all


class PublicGoodsParams(Spec):
    """Settings of the public goods game."""

    endowment: int = Field(default=20, ge=1)
    """Points that each player has in each round."""
    marginal_return: float = Field(default=0.4, gt=0)
    """Points that each player gets for each point in the pot (the paper's 0.4 with 4 players)."""
    rounds: int = Field(default=10, ge=1)
    """Rounds, one a tick."""
    punishment: bool = False
    """Whether a second stage lets players take points off others."""
    punishment_cost: float = Field(default=1.0, ge=0)
    """What a point of punishment costs the punisher."""
    punishment_effect: float = Field(default=3.0, ge=0)
    """What a point of punishment takes off the punished."""
    max_punishment: int = Field(default=10, ge=1)
    """Most points that a player may assign to one other in a round."""


class PublicGoods(Scenario[PublicGoodsParams]):
    """The public goods game, with or without costly punishment."""

    Params = PublicGoodsParams
    takes_turns = False
    coverage = Coverage(
        domain="economy",
        interface=frozenset({"sandbox"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"cooperative", "competitive"}),
        structure=frozenset({"decentralised"}),
        feedback=frozenset({"environment", "agents"}),
        adjustment=frozenset({"memory"}),
    )

    def __init__(self, params: PublicGoodsParams) -> None:
        super().__init__(params)
        # All players see the same table of a round; among thousands, writing it for each would be most of a tick.
        self._shown: tuple[Mapping[str, int], str] = ({}, "")

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        if len(seats) < 2:
            raise SimulationError("a public goods game needs others", got=len(seats), expected="at least 2 agents")
        ids = [seat.id for seat in seats]
        return {
            "agents": ids,
            "stage": "give",
            "given": [],  # per round, points by agent
            "earned": dict.fromkeys(ids, 0.0),
            "lost": dict.fromkeys(ids, 0),  # points of punishment received in the last round
            "spent": 0,  # points of punishment assigned so far
        }

    def who_acts(self, state: State) -> Sequence[str]:
        agents: Sequence[str] = state["agents"]
        return agents

    def observe(self, state: State, agent: str) -> Observation:
        given: list[dict[str, int]] = state["given"]
        facts = {
            "stage": state["stage"],
            "agents": state["agents"],
            "endowment": self.params.endowment,
            "most": self.params.max_punishment,
            "given": given[-1] if given else {},
            "lost": state["lost"][agent],
        }
        if state["stage"] == "punish":
            return Observation(self._punishments(state["agents"], agent), self._table(given[-1]), facts=facts)
        legal = Integer(0, self.params.endowment, default=0)
        last = f"{self._table(given[-1])}\n" if given else ""
        text = f"{last}Round {len(given) + 1}. How many points do you put into the pot?"
        punished = f"You were punished with {state['lost'][agent]} points." if state["lost"][agent] else ""
        return Observation(legal, text, private=punished, facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        require_all(actions, self.who_acts(state))
        if state["stage"] == "punish":
            return self._punish(state, actions)
        given = {agent: actions[agent].payload if agent in actions else 0 for agent in state["agents"]}
        pot = sum(given.values())
        payoff = {a: self.params.endowment - c + self.params.marginal_return * pot for a, c in given.items()}
        new = {
            **state,
            "given": [*state["given"], given],
            "earned": {agent: earned + payoff[agent] for agent, earned in state["earned"].items()},
            "lost": dict.fromkeys(state["agents"], 0),
            "stage": "punish" if self.params.punishment else "give",
        }
        feedback = [Feedback("environment", agent, value) for agent, value in payoff.items()]
        events = [{"given": given, "pot": pot}]
        return Resolution(new, events, feedback, again=self.params.punishment)

    def done(self, state: State) -> bool:
        return len(state["given"]) >= self.params.rounds and state["stage"] == "give"

    def metrics(self, state: State) -> Mapping[str, float]:
        earned, rounds = list(state["earned"].values()), len(state["given"])
        alone = self.params.endowment * rounds * len(earned)
        best = alone * max(1.0, self.params.marginal_return * len(earned))
        return {
            "mean_contribution": fmean(state["given"][-1].values()),
            "mean_payoff": fmean(earned) / rounds,
            "welfare_share": (sum(earned) - alone) / (best - alone) if best > alone else 0.0,
            "gini": gini(earned),
            "punishment": float(state["spent"]),
        }

    def rules(self) -> str:
        p = self.params
        text = (
            f"You play {p.rounds} rounds of a game with others. Each round you get {p.endowment} points and decide how"
            " many of them to put into a common pot. You keep the rest. Every player then gets"
            f" {p.marginal_return:g} points for each point in the pot, whoever put it there."
        )
        if not p.punishment:
            return text
        return (
            f"{text} After each round you may punish others: a point of punishment costs you {p.punishment_cost:g} and"
            f" takes {p.punishment_effect:g} off the other."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        means = [fmean(given.values()) for given in state["given"]]
        slope = linear_regression(range(len(means)), means).slope if len(means) > 1 else 0.0
        types = {agent: self._type(state["given"], agent) for agent in state["agents"]}
        return {**self.metrics(state), "slope": slope, "types": types, "earned": state["earned"]}

    def _punish(self, state: State, actions: Mapping[str, Action]) -> Resolution:
        p = self.params
        assigned = {agent: action.payload for agent, action in actions.items()}
        lost = {a: sum(points.get(a, 0) for points in assigned.values()) for a in state["agents"]}
        paid = {a: sum(assigned.get(a, {}).values()) for a in state["agents"]}
        earned = {
            a: e - p.punishment_cost * paid[a] - p.punishment_effect * lost[a] for a, e in state["earned"].items()
        }
        new = {**state, "earned": earned, "lost": lost, "spent": state["spent"] + sum(paid.values()), "stage": "give"}
        feedback = [Feedback("agent", a, -p.punishment_effect * points) for a, points in lost.items() if points]
        return Resolution(new, [{"punished": {a: points for a, points in lost.items() if points}}], feedback)

    def _punishments(self, agents: Sequence[str], agent: str) -> Structured:
        points = {"type": "integer", "minimum": 0, "maximum": self.params.max_punishment}
        others = {other: points for other in agents if other != agent}
        return Structured({"type": "object", "properties": others, "additionalProperties": False}, default={})

    def _table(self, given: Mapping[str, int]) -> str:
        if self._shown[0] is not given:
            told = ", ".join(f"{agent} {points}" for agent, points in given.items())
            self._shown = (given, f"Put into the pot: {told}.")
        return self._shown[1]

    def _type(self, given: Sequence[Mapping[str, int]], agent: str) -> str:
        """Which of the usual types a player's contributions resemble (thresholds are ours)."""
        own = [points[agent] for points in given]
        if fmean(own) <= 0.1 * self.params.endowment:
            return "free_rider"
        if fmean(own) >= 0.9 * self.params.endowment:
            return "cooperator"
        others = [_by_others(points, agent) for points in given]
        before, after = others[:-1], own[1:]
        if len(set(before)) > 1 and len(set(after)) > 1 and correlation(before, after) >= 0.5:
            return "conditional"
        return "other"

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        mixed = [("a", "free_rider"), *((name, "cooperator") for name in "bcd")]
        return [
            Oracle(
                "a free rider among three co-operators",
                game(mixed, rounds=10),
                lambda result: result.state["earned"]["a"],
                exact=10 * (20 + 0.4 * 60),
                source="the payoff identity e - c + m * sum(c)",
            ),
            Oracle(
                "random players",
                game([(name, "random") for name in "abcd"], rounds=10),
                lambda result: result.metrics[-1]["mean_payoff"],
                exact=20 + (0.4 * 4 - 1) * 10,
                source="the payoff identity at the mean contribution e / 2",
            ),
            Oracle(
                "conditional co-operation decays",
                game([(name, "conditional") for name in "abcd"], rounds=10),
                lambda result: result.metrics[-1]["mean_contribution"],
                exact=10 * 0.75**9,
                source="slope 0.75 of the others' mean, rounded at random without bias: E[c_t] = c_0 * 0.75^t",
            ),
        ]


def game(players: Sequence[tuple[str, str]], **params: Any) -> SimulationSpec:
    """A game of scripted players, each an id and a policy."""
    agents = tuple(AgentSpec(id=name, brain=ScriptedBrain(kind="scripted", policy=policy)) for name, policy in players)
    settings = PublicGoodsParams(**params)
    return SimulationSpec(scenario="public_goods", params=params, agents=agents, max_ticks=settings.rounds)


def free_rider(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Gives nothing and punishes nobody."""
    return "{}" if observation.facts["stage"] == "punish" else answer(0)


def cooperator(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Gives all."""
    return "{}" if observation.facts["stage"] == "punish" else answer(observation.facts["endowment"])


def random_giver(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Gives anything, all amounts equally likely."""
    if observation.facts["stage"] == "punish":
        return "{}"
    return answer(rng.integer(0, observation.facts["endowment"], "give"))


def conditional(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Gives `slope` of what the others gave on average, half the endowment at first (attributes `slope`, `start`)."""
    if observation.facts["stage"] == "punish":
        return "{}"
    mean = _others(observation)
    if mean is None:
        return answer(profile.attributes.get("start", observation.facts["endowment"] // 2))
    return answer(_rounded(float(profile.attributes.get("slope", 0.75)) * mean, rng))


def triangle(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Gives as the others do up to half the endowment, and less and less beyond."""
    if observation.facts["stage"] == "punish":
        return "{}"
    endowment, mean = observation.facts["endowment"], _others(observation)
    mean = endowment / 2 if mean is None else mean
    return answer(_rounded(min(mean, endowment - mean), rng))


def punisher(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Gives as the others do, and takes a point off others for each 2 points that they gave less."""
    facts = observation.facts
    if facts["stage"] == "punish":
        own = facts["given"][observation.agent]
        points = {other: min(facts["most"], (own - gave) // 2) for other, gave in facts["given"].items()}
        return canonical({other: some for other, some in points.items() if some > 0}).decode()
    mean = _others(observation)
    return answer(facts["endowment"] // 2 if mean is None else _rounded(mean, rng))


def opportunist(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Gives nothing until it hurts: 3 points more for each point of punishment, and slowly less without."""
    facts = observation.facts
    if facts["stage"] == "punish":
        return "{}"
    before = facts["given"].get(observation.agent, 0)
    return answer(min(facts["endowment"], before + 3 * facts["lost"]) if facts["lost"] else max(0, before - 1))


PublicGoods.scripted = {
    "free_rider": free_rider,
    "cooperator": cooperator,
    "random": random_giver,
    "conditional": conditional,
    "triangle": triangle,
    "punisher": punisher,
    "opportunist": opportunist,
}


def _others(observation: Observation) -> float | None:
    """What the others gave on average in the last round; none in the first."""
    given = observation.facts["given"]
    return _by_others(given, observation.agent) if given else None


def _by_others(given: Mapping[str, int], agent: str) -> float:
    """What the others gave on average in a round."""
    # All minus one, which among thousands of players is much less work than one by one.
    return (sum(given.values()) - given[agent]) / (len(given) - 1)


def _rounded(value: float, rng: CounterRng) -> int:
    """A whole number whose mean is the value."""
    whole = int(value)
    return whole + (rng.uniform("rounding") < value - whole)
