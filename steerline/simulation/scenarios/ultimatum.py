"""The ultimatum game: one offers a share of a pie, the other takes it or leaves both with nothing.

Rules after Gueth, Schmittberger and Schwarze, "An Experimental Analysis of Ultimatum Bargaining", JEBO 3 (1982); with
language models as subjects in Aher et al., "Using Large Language Models to Simulate Multiple Humans" (2023). One tick
is one round of two sub-rounds: pairs and parts are drawn, the proposer offers, the responder replies. Whoever cares
for points alone takes anything above nothing, so that the least possible offer is made (subgame perfect equilibrium);
people leave low offers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action, Choice, Integer
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.parsing import answer
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.inequality import gini
from steerline.simulation.scenarios.together import require_all

LOW = 0.2
"""Offers below this share of the pie count as low."""


class UltimatumParams(Spec):
    """Settings of the ultimatum game."""

    pie: int = Field(default=10, ge=2)
    """Points that are shared."""
    rounds: int = Field(default=10, ge=1)
    """Rounds, one a tick."""
    talk: bool = False
    """Whether the responder reads what the proposer writes with the offer."""


class Ultimatum(Scenario[UltimatumParams]):
    """The ultimatum game among two or more, with pairs and parts drawn anew each round."""

    Params = UltimatumParams
    coverage = Coverage(
        domain="psychology",
        interface=frozenset({"sandbox"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"competitive"}),
        structure=frozenset({"decentralised"}),
        feedback=frozenset({"environment", "agents"}),
        adjustment=frozenset({"memory"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        if len(seats) < 2:
            raise SimulationError("an ultimatum needs another", got=len(seats), expected="at least 2 agents")
        ids = [seat.id for seat in seats]
        return {
            "agents": ids,
            "round": 0,
            "pairs": _pairs(ids, rng),  # proposer and responder; with an odd number one rests
            "offers": {},  # of this round, by proposer
            "last": {},  # what came of an agent's last offer
            "earned": dict.fromkeys(ids, 0.0),
            "made": [0] * (self.params.pie + 1),  # offers so far, by size
            "taken": [0] * (self.params.pie + 1),  # of these, accepted
        }

    def who_acts(self, state: State) -> Sequence[str]:
        return [two if state["offers"] else one for one, two in state["pairs"]]

    def observe(self, state: State, agent: str) -> Observation:
        pie, number = self.params.pie, state["round"] + 1
        proposers = {two: one for one, two in state["pairs"]}
        if state["offers"]:
            offer = state["offers"][proposers[agent]]
            text = (
                f"Round {number} of {self.params.rounds}. {proposers[agent]} offers you {offer} of {pie} points and"
                f" keeps {pie - offer}. If you reject, both of you get nothing. Do you accept or reject?"
            )
            facts = {"stage": "reply", "pie": pie, "offer": offer}
            return Observation(Choice(("accept", "reject"), default="reject"), text, facts=facts)
        responder = dict(state["pairs"])[agent]
        last = state["last"].get(agent)
        before = "" if last is None else f"Your last offer of {last['offer']} was {_outcome(last['accepted'])}.\n"
        text = f"{before}Round {number} of {self.params.rounds}. How many of {pie} points do you offer {responder}?"
        return Observation(Integer(0, pie, default=0), text, facts={"stage": "offer", "pie": pie, "last": last})

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        require_all(actions, self.who_acts(state))
        if not state["offers"]:
            offers = {one: actions[one].payload if one in actions else 0 for one, _ in state["pairs"]}
            said = [(pair, actions[pair[0]]) for pair in state["pairs"] if self.params.talk and pair[0] in actions]
            messages = [
                Draft(one, action.raw_text, action.payload, (two,), paradigm="compete") for (one, two), action in said
            ]
            return Resolution({**state, "offers": offers}, [{"offers": offers}], messages=messages, again=True)
        return self._settle(state, actions, rng)

    def done(self, state: State) -> bool:
        return bool(state["round"] >= self.params.rounds)

    def metrics(self, state: State) -> Mapping[str, float]:
        made, taken, pie = sum(state["made"]), sum(state["taken"]), self.params.pie
        offered = sum(offer * times for offer, times in enumerate(state["made"]))
        earned = list(state["earned"].values())
        return {
            "mean_offer": offered / (made * pie),
            "acceptance": taken / made,
            "proposer_payoff": sum((pie - offer) * times for offer, times in enumerate(state["taken"])) / made,
            "responder_payoff": sum(offer * times for offer, times in enumerate(state["taken"])) / made,
            "gini": gini(earned),
        }

    def rules(self) -> str:
        return (
            f"You play a game with others. Each round {self.params.pie} points are to be shared by two of you. One"
            " offers the other a part of them. If the other accepts, the points are shared as offered. If the other"
            " rejects, both get nothing."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        """The metrics, acceptance by size of offer, and how often low offers were left (none where there were none)."""
        sizes = range(self.params.pie + 1)
        low = [offer for offer in sizes if offer < LOW * self.params.pie]
        made = sum(state["made"][offer] for offer in low)
        return {
            **self.metrics(state),
            "acceptance_by_offer": {str(o): state["taken"][o] / state["made"][o] for o in sizes if state["made"][o]},
            "low_rejection": 1 - sum(state["taken"][offer] for offer in low) / made if made else None,
            "earned": state["earned"],
        }

    def _settle(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        earned, last = dict(state["earned"]), dict(state["last"])
        made, taken = list(state["made"]), list(state["taken"])
        feedback, accepted = [], {}
        for one, two in state["pairs"]:
            offer = state["offers"][one]
            accepted[one] = two in actions and actions[two].payload == "accept"
            gains = (self.params.pie - offer, offer) if accepted[one] else (0, 0)
            for agent, gain in zip((one, two), gains, strict=True):
                earned[agent] += gain
            reply = f"{two} {_outcome(accepted[one])} your offer of {offer}."
            feedback += [Feedback("agent", one, gains[0], reply), Feedback("environment", two, gains[1])]
            last[one] = {"offer": offer, "accepted": accepted[one]}
            made[offer] += 1
            taken[offer] += accepted[one]
        new = {
            **state,
            "round": state["round"] + 1,
            "pairs": _pairs(state["agents"], rng),
            "offers": {},
            "earned": earned,
            "last": last,
            "made": made,
            "taken": taken,
        }
        return Resolution(new, [{"accepted": accepted}], feedback)

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        pie = UltimatumParams().pie
        # A limit drawn from 0..n takes an offer of k with the chance (k + 1) / (n + 1).
        best = max((pie - offer) * (offer + 1) / (pie + 1) for offer in range(pie + 1))
        return [
            Oracle(
                "the least offer is made and taken",
                game([("a", "rational"), ("b", "rational")]),
                lambda result: result.outcome["proposer_payoff"],
                exact=pie - 1,
                source="the subgame perfect equilibrium in whole points, where nothing is left for nothing",
            ),
            Oracle(
                "random offers meet random limits",
                game([(name, "random") for name in "abcd"], rounds=20),
                lambda result: result.outcome["acceptance"],
                exact=(pie + 2) / (2 * (pie + 1)),
                source="mean over offers k of 0..n of (k + 1) / (n + 1)",
            ),
            Oracle(
                "the best reply to random limits",
                game([("a", "optimiser"), ("b", "random")], rounds=40),
                lambda result: _per_round(result, "a"),
                exact=(best + pie / 2) / 2,
                source="half the rounds max_k (n - k)(k + 1) / (n + 1) as proposer, half of them n / 2 as responder",
            ),
        ]


def game(players: Sequence[tuple[str, str]], **params: Any) -> SimulationSpec:
    """A game of scripted players, each an id and a policy."""
    agents = tuple(AgentSpec(id=name, brain=ScriptedBrain(kind="scripted", policy=policy)) for name, policy in players)
    return SimulationSpec(
        scenario="ultimatum", params=params, agents=agents, max_ticks=UltimatumParams(**params).rounds
    )


def rational(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Offers the least that is more than nothing, and takes whatever that is."""
    return answer(1) if observation.facts["stage"] == "offer" else _reply(observation, limit=1)


def fair(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Offers half, and takes no less than a share of the pie (attribute `limit`)."""
    pie = observation.facts["pie"]
    if observation.facts["stage"] == "offer":
        return answer(pie // 2)
    return _reply(observation, limit=float(profile.attributes.get("limit", 0.4)) * pie)


def random_player(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Offers anything, and has a limit of anything, both anew each time."""
    pie = observation.facts["pie"]
    if observation.facts["stage"] == "offer":
        return answer(rng.integer(0, pie, "offer"))
    return _reply(observation, limit=rng.integer(0, pie, "limit"))


def optimiser(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Offers what earns most from those who have any limit with equal chances, and takes what is more than nothing."""
    if observation.facts["stage"] == "reply":
        return _reply(observation, limit=1)
    pie = observation.facts["pie"]
    return answer(max(range(pie + 1), key=lambda offer: (pie - offer) * (offer + 1)))


def learner(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Starts at half, offers a point less after a success and a point more after a failure; takes more than nothing."""
    if observation.facts["stage"] == "reply":
        return _reply(observation, limit=1)
    pie, last = observation.facts["pie"], observation.facts["last"]
    if last is None:
        return answer(pie // 2)
    return answer(min(pie, max(0, last["offer"] + (-1 if last["accepted"] else 1))))


Ultimatum.scripted = {
    "rational": rational,
    "fair": fair,
    "random": random_player,
    "optimiser": optimiser,
    "learner": learner,
}


def _pairs(agents: Sequence[str], rng: CounterRng) -> list[list[str]]:
    order = rng.shuffled(agents, "pairs")
    return [list(pair) for pair in zip(order[::2], order[1::2], strict=False)]


def _reply(observation: Observation, limit: float) -> str:
    return answer("accept" if observation.facts["offer"] >= limit else "reject")


def _outcome(accepted: bool) -> str:
    return "accepted" if accepted else "rejected"


def _per_round(result: Result, agent: str) -> float:
    return float(result.outcome["earned"][agent]) / result.tick
