"""Opinion dynamics: people hear what others think, and move.

Two classic ways to move. DeGroot, "Reaching a Consensus", JASA 69 (1974): take a weighted mean; all end at one opinion,
the mean of the first ones weighted by the stationary law of the averaging. Hegselmann and Krause, "Opinion Dynamics and
Bounded Confidence", JASSS 5 (2002): take the mean of those who are near; camps form that hear each other no more. With
language models as people after Chuang et al., arXiv 2311.09618.

The town is an array and moves as one. Agents with brains are its first inhabitants: they hear the numbers of those to
whom they listen, and the words of other agents as the topology has it, and say where they stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action, Number
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.epidemic_contacts import Contacts
from steerline.simulation.scenarios.opinion_dynamics import (
    NetworkKind,
    Opinions,
    bounded_confidence,
    camps,
    degroot,
    heard_by,
    influence,
    network,
    polarisation,
)
from steerline.simulation.scenarios.together import require_all

GAP = 0.01
"""Distance of opinions next to each other that parts two camps."""


class OpinionParams(Spec):
    """Settings of the opinion dynamics."""

    topic: str = "The town should build the new bridge."
    """The statement that opinions are about."""
    inhabitants: int = Field(default=100, ge=2, le=10_000_000)
    """People, those with brains among them."""
    rule: Literal["degroot", "bounded_confidence"] = "degroot"
    """How the crowd moves."""
    self_weight: float = Field(default=0.5, ge=0, lt=1)
    """Weight that the crowd gives to its own opinion (DeGroot)."""
    confidence: float = Field(default=0.2, ge=0, le=1)
    """Greatest distance of opinions that the crowd still listens to (bounded confidence)."""
    network: NetworkKind = "complete"
    """Who listens to whom. The hub of a star is the first agent."""
    degree: int = Field(default=4, ge=2, multiple_of=2)
    """People to whom each listens, on average; complete networks and stars need none."""
    truth: float | None = Field(default=None, ge=0, le=1)
    """The right opinion, where there is one; known to agents with the attribute `informed`."""
    rounds: int = Field(default=200, ge=1)
    """Rounds, one a tick, after which it ends."""
    tolerance: float = Field(default=1e-6, ge=0)
    """It ends before when nobody moves farther than this."""
    talk: bool = True
    """Whether agents read what other agents write with their opinions."""


class Opinion(Scenario[OpinionParams]):
    """Opinion dynamics in a town, some of whose people decide for themselves."""

    Params = OpinionParams
    takes_turns = False
    coverage = Coverage(
        domain="society",
        interface=frozenset({"none"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"debate"}),
        structure=frozenset({"decentralised"}),
        feedback=frozenset({"agents", "none"}),
        adjustment=frozenset({"memory"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        if len(seats) > self.params.inhabitants:
            raise SimulationError(
                "the town is too small",
                got=self.params.inhabitants,
                expected=f"at least {len(seats)}",
                fix="raise `params.inhabitants`",
            )
        opinions = rng.generator("opinions").random(self.params.inhabitants)
        for place, seat in enumerate(seats):
            opinions[place] = float(seat.profile.attributes.get("opinion", opinions[place]))
        if not np.all((opinions >= 0) & (opinions <= 1)):
            raise SimulationError("an opinion lies outside its scale", where="attribute opinion", expected="0 to 1")
        key = rng.integer(0, 2**63 - 1, "links")
        return {
            "agents": {seat.id: place for place, seat in enumerate(seats)},  # which inhabitant each of them is
            "informed": [seat.id for seat in seats if seat.profile.attributes.get("informed")],
            "links": key,  # of the network
            "opinions": opinions,
            "consensus": float(influence(self._links(key), len(opinions)) @ opinions),  # where averaging alone leads
            "round": 0,
            "change": 1.0,  # farthest that anybody moved in the last round
        }

    def who_acts(self, state: State) -> Sequence[str]:
        return list(state["agents"])

    def observe(self, state: State, agent: str) -> Observation:
        place = state["agents"][agent]
        own = float(state["opinions"][place])
        heard = heard_by(place, state["opinions"], self._links(state["links"]))
        near = heard[np.abs(heard - own) <= self.params.confidence]
        facts = {
            "own": own,
            "heard": len(heard),
            "mean": float(heard.mean()) if len(heard) else own,
            "near": len(near),
            "near_mean": float(near.mean()) if len(near) else own,
        }
        text = (
            f"Your opinion is {own:.3f}. The {facts['heard']} people you listen to think {facts['mean']:.3f} on"
            f" average. {facts['near']} of them are close to you and think {facts['near_mean']:.3f}.\n"
            "What is your opinion now?"
        )
        private = ""
        if agent in state["informed"] and self.params.truth is not None:
            facts["truth"] = self.params.truth
            private = f"you have seen proof that {self.params.truth:g} is right."
        return Observation(Number(0.0, 1.0, default=own), text, private=private, facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        require_all(actions, self.who_acts(state))
        before: Opinions = state["opinions"]
        opinions = np.clip(self._moved(before, self._links(state["links"])), 0.0, 1.0)
        for agent, place in state["agents"].items():
            opinions[place] = actions[agent].payload if agent in actions else before[place]
        change = float(np.abs(opinions - before).max())
        new = {**state, "opinions": opinions, "round": state["round"] + 1, "change": change}
        said = [
            Draft(agent, action.raw_text, action.payload, paradigm="debate")
            for agent, action in actions.items()
            if self.params.talk and action.raw_text
        ]
        return Resolution(new, [{"round": state["round"], "change": change}], messages=said)

    def done(self, state: State) -> bool:
        return bool(state["round"] >= self.params.rounds or state["change"] <= self.params.tolerance)

    def metrics(self, state: State) -> Mapping[str, float]:
        opinions: Opinions = state["opinions"]
        truth = self.params.truth
        to_truth = {} if truth is None else {
            "bias": float(opinions.mean()) - truth,
            "truth_distance": float(np.abs(opinions - truth).mean()),
        }  # fmt: skip
        return {
            "mean": float(opinions.mean()),
            "diversity": float(opinions.std()),
            "polarisation": polarisation(opinions),
            "camps": float(len(camps(opinions, GAP))),
            "pull": float(opinions.mean()) - state["consensus"],
            "change": state["change"],
            **to_truth,
        }

    def rules(self) -> str:
        return (
            f"People in a town have an opinion about this: {self.params.topic} An opinion is a number from 0 (fully"
            " against) to 1 (fully in favour). Each round you hear what others think, and say your opinion again."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        """The metrics, the camps, and the round in which opinions came to rest (none where they have not)."""
        found = camps(state["opinions"], GAP)
        return {
            **self.metrics(state),
            "question": self.params.topic,
            "answer": round(float(state["opinions"].mean()), 3),
            "camp_opinions": [opinion for opinion, _ in found],
            "camp_sizes": [size for _, size in found],
            "settled": state["round"] if state["change"] <= self.params.tolerance else None,
        }

    def _links(self, key: int) -> Contacts | None:
        return network(self.params.network, self.params.degree, self.params.inhabitants, key)

    def _moved(self, opinions: Opinions, links: Contacts | None) -> Opinions:
        if self.params.rule == "degroot":
            return degroot(opinions, links, self.params.self_weight)
        return bounded_confidence(opinions, links, self.params.confidence)

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        town = 20
        crowd = [("a", "degroot")]
        hub = 0.25 + 0.25 / (town - 1)  # sum of the squared weights: half for the hub, half shared by the others
        return [
            *(
                Oracle(
                    f"DeGroot's consensus: {kind}",
                    game(crowd, inhabitants=town, network=kind, degree=8, tolerance=1e-10, rounds=500),
                    lambda result: float(np.abs(result.state["opinions"] - result.state["consensus"]).max()),
                    exact=0.0,
                    source="all end at the mean of the first opinions, weighted by the stationary law of the averaging",
                )
                for kind in ("complete", "star", "scale_free")
            ),
            Oracle(
                "the hub of a star decides half",
                game(crowd, inhabitants=town, network="star"),
                lambda result: (result.outcome["mean"] - 0.5) ** 2,
                exact=hub / 12,
                source="variance of a weighted mean of uniform numbers, sum of pi^2 / 12",
            ),
            Oracle(
                "between two who do not move",
                game(
                    [("a", "stubborn"), ("b", "stubborn")],
                    {"a": 0.1, "b": 0.7},
                    inhabitants=6,
                    self_weight=0.0,
                    tolerance=1e-10,
                ),
                lambda result: float(result.state["opinions"][2:].mean()),
                exact=0.4,
                source="the fixed point x = s x + (1 - s)(0.1 + 0.7 + (N - 3) x) / (N - 1)",
            ),
            Oracle(
                "camps are farther apart than confidence reaches",
                game([("a", "bounded")], rule="bounded_confidence"),
                lambda result: float(min(np.diff(result.outcome["camp_opinions"]), default=1.0) > 0.2),
                exact=1.0,
                source="Hegselmann and Krause 2002: nobody moves only where camps do not hear each other",
            ),
            Oracle(
                "neither side is favoured",
                game([("a", "bounded")], rule="bounded_confidence", confidence=0.1),
                lambda result: result.outcome["mean"],
                exact=0.5,
                source="x and 1 - x move alike and are equally likely at the start",
            ),
        ]


def game(
    players: Sequence[tuple[str, str]], opinions: Mapping[str, float] | None = None, **params: Any
) -> SimulationSpec:
    """A town with scripted agents, each an id and a policy; their first opinions may be set."""
    agents = tuple(
        AgentSpec(
            id=name,
            profile=Profile(attributes={"opinion": opinions[name]} if opinions and name in opinions else {}),
            brain=ScriptedBrain(kind="scripted", policy=policy),
        )
        for name, policy in players
    )
    return SimulationSpec(scenario="opinion", params=params, agents=agents, max_ticks=OpinionParams(**params).rounds)


def averager(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Takes a mean with those listened to (attribute `self_weight`, 0.5): DeGroot."""
    facts, weight = observation.facts, float(profile.attributes.get("self_weight", 0.5))
    return answer(weight * facts["own"] + (1 - weight) * facts["mean"])


def bounded(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Takes the mean with those who are close: Hegselmann and Krause."""
    facts = observation.facts
    return answer((facts["own"] + facts["near"] * facts["near_mean"]) / (1 + facts["near"]))


def stubborn(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Stays."""
    return answer(observation.facts["own"])


def contrarian(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Moves away from the mean."""
    own, mean = observation.facts["own"], observation.facts["mean"]
    return answer(min(1.0, max(0.0, own + (own - mean) / 2)))


def truth_seeker(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Moves half-way to the truth where it is known, and averages with those who are close."""
    facts = observation.facts
    social = (facts["own"] + facts["near"] * facts["near_mean"]) / (1 + facts["near"])
    return answer((social + facts.get("truth", social)) / 2)


Opinion.scripted = {
    "degroot": averager,
    "bounded": bounded,
    "stubborn": stubborn,
    "contrarian": contrarian,
    "truth_seeker": truth_seeker,
}
