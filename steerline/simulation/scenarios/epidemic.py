"""An epidemic in a town: people fall ill by contact, recover, and may stay at home.

The classic model of Kermack and McKendrick (1927) in days. A healthy person falls ill with the chance
`1 - exp(-R0 / D * out / N)` under complete mixing (D the mean days of illness, `out` the ill who go out), or by each
day's contact with an ill neighbour on a network. Behaviour after Williams et al., "Epidemic Modeling with Generative
Agents", arXiv 2307.04986: people stay at home when they are ill or when many are.

The town is arrays and a day logs one delta. Agents with brains are its first inhabitants: they decide for their own
bodies and take part in everything else; the others follow the crowd's settings. With `friends`, who falls ill gives a
brain to one more of them. An agent with the role `observer` has no body and no turn: a crowd alone is a town with an
observer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import correlation
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action, Choice
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.parsing import answer
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, Spawn, State
from steerline.simulation.scenarios.epidemic_contacts import (
    ContactSpec,
    Ids,
    Mixing,
    Places,
    contacts,
)
from steerline.simulation.scenarios.epidemic_theory import final_size, regular_final_size, waves

OBSERVER = "observer"
"""The role of an agent without a body."""
FOR_EVER = -128
"""Immunity that does not end, in `course`."""

Course = NDArray[np.int8]
"""[N] A byte for each inhabitant: days of illness that are left (above 0), days of immunity that are left (below 0), or
0. Where durations vary, the last day comes again until a draw ends it."""


class EpidemicParams(Spec):
    """Settings of the epidemic."""

    inhabitants: int = Field(default=1000, ge=2, le=10_000_000)
    """People in the town, those with brains among them."""
    contact: ContactSpec = Mixing(kind="mixing")
    """Who meets whom."""
    ill_at_start: int = Field(default=10, ge=1)
    """People who are ill on the first day, drawn at random."""
    illness_days: float = Field(default=4.0, ge=1, le=1000)
    """Mean days of illness."""
    immunity_days: float | None = Field(default=None, ge=1, le=1000)
    """Mean days of immunity after an illness; none is for ever."""
    durations: Literal["geometric", "fixed"] = "geometric"
    """Whether days of illness and immunity vary (the chance to end is the same every day) or are alike: whole numbers
    up to 126."""
    ill_stay: float = Field(default=0.0, ge=0, le=1)
    """Chance that an ill person of the crowd stays at home on a day."""
    fear: float = Field(default=0.0, ge=0)
    """How the crowd answers to news: everybody stays at home with the chance `1 - exp(-fear * share of the ill)`."""
    days: int = Field(default=365, ge=1, le=30_000)
    """Days after which it ends, if nobody is left ill before."""
    income: float = 1.0
    """What an agent earns by a day outside."""
    illness_cost: float = 5.0
    """What an agent loses by falling ill."""
    talk: bool = True
    """Whether agents tell others each day where they are."""
    friends: bool = False
    """Whether an agent that falls ill warns a friend: one of the crowd, who decides for herself from then on. It needs
    a `spawn_quota`."""

    @model_validator(mode="after")
    def _fixed_durations_fit(self) -> EpidemicParams:
        for name, days in (("illness_days", self.illness_days), ("immunity_days", self.immunity_days)):
            if self.durations == "fixed" and days is not None and not (days.is_integer() and days <= 126):
                raise misfit("a fixed number of days is whole and not too large", name, expected="1 to 126")
        return self


class Epidemic(Scenario[EpidemicParams]):
    """An epidemic among thousands, some of whom decide for themselves."""

    Params = EpidemicParams
    takes_turns = False
    coverage = Coverage(
        domain="disease",
        interface=frozenset({"sandbox"}),
        profiling=frozenset({"predefined", "model_generated"}),
        paradigm=frozenset({"cooperative"}),
        structure=frozenset({"decentralised"}),
        feedback=frozenset({"environment", "agents"}),
        adjustment=frozenset({"memory", "dynamic_generation"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        p, bodies = self.params, [seat.id for seat in seats if seat.profile.role != OBSERVER]
        if max(len(bodies), p.ill_at_start) > p.inhabitants:
            raise SimulationError(
                "the town is too small",
                got=p.inhabitants,
                expected=f"at least {max(len(bodies), p.ill_at_start)}",
                fix="raise `params.inhabitants`",
            )
        course = np.zeros(p.inhabitants, np.int8)
        first = rng.generator("first").choice(p.inhabitants, p.ill_at_start, replace=False)
        course[first] = self._length(p.illness_days)
        return {
            "agents": {agent: place for place, agent in enumerate(bodies)},  # which inhabitant each of them is
            "course": course,
            "contacts": rng.integer(0, 2**63 - 1, "contacts"),  # key of the network
            "day": 0,
            "ill": p.ill_at_start,
            "days": np.zeros((0, 2), np.int32),  # by day, how many were ill in the morning and how many stayed at home
            "infections": p.ill_at_start,  # since the beginning
            "new": 0,  # infections of the last day
        }

    def who_acts(self, state: State) -> Sequence[str]:
        return list(state["agents"])

    def observe(self, state: State, agent: str) -> Observation:
        course = int(state["course"][state["agents"][agent]])
        ill, town = state["ill"], self.params.inhabitants
        text = (
            f"Day {state['day'] + 1}. {ill} of the {town} people in your town are ill ({100 * ill / town:.1f} %)."
            " Do you go out today or stay at home?"
        )
        private = "you are ill." if course > 0 else "you were ill and are immune now." if course else "you feel well."
        facts = {"day": state["day"], "share": ill / town, "ill": course > 0, "immune": course < 0}
        return Observation(Choice(("out", "home"), default="out"), text, private=private, facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        p, course, draws = self.params, state["course"], rng.generator("town")
        out = self._out(state, actions, rng)
        ill, immune = np.flatnonzero(course > 0), np.flatnonzero(course < 0) if p.immunity_days else _NOBODY
        infected = self._infected(state, ill[out[ill]], out, draws)
        recovered = self._ending(ill, course, p.illness_days, draws)
        waned = self._ending(immune, course, p.immunity_days or 1, draws)
        course = course.copy()
        if p.durations == "fixed":
            course[ill] -= 1
            course[immune] += 1
        course[recovered] = FOR_EVER if p.immunity_days is None else -self._length(p.immunity_days)
        course[waned] = 0
        course[infected] = self._length(p.illness_days)
        home = len(out) - int(np.count_nonzero(out))
        new = {
            **state,
            "course": course,
            "day": state["day"] + 1,
            "ill": len(ill) + len(infected) - len(recovered),
            "days": np.concatenate((state["days"], np.array([[len(ill), home]], np.int32))),
            "infections": state["infections"] + len(infected),
            "new": len(infected),
        }
        delta = {"day": state["day"], "infected": infected, "recovered": recovered, "waned": waned, "home": home}
        fallen = [agent for agent, place in state["agents"].items() if state["course"][place] == 0 < course[place]]
        feedback, talk = self._feedback(state, fallen, out), self._talk(state, out)
        return Resolution(new, [delta], feedback, talk, spawned=self._friends(state, fallen))

    def joined(self, state: State, seat: Seat, rng: CounterRng) -> State:
        """A newcomer is the first of the crowd: its body stays as it is."""
        agents = {**state["agents"], seat.id: len(state["agents"])}
        return {**state, "agents": dict(sorted(agents.items()))}

    def done(self, state: State) -> bool:
        return bool(state["day"] >= self.params.days or state["ill"] == 0)

    def metrics(self, state: State) -> Mapping[str, float]:
        town, ill, (before, home) = self.params.inhabitants, state["ill"], state["days"][-1].tolist()
        ever = int(np.count_nonzero(state["course"]))
        return {
            "susceptible": (town - ever) / town,
            "ill": ill / town,
            "immune": (ever - ill) / town,
            "infections": state["infections"] / town,
            "home": home / town,
            "reproduction": state["new"] / before * self.params.illness_days,
        }

    def rules(self) -> str:
        p = self.params
        return (
            f"An illness spreads in your town of {p.inhabitants} people. Each morning you choose: go out, or stay at"
            f" home. A day outside earns {p.income:g}. Whoever goes out may catch the illness from ill people who go"
            f" out too; whoever stays at home neither catches nor spreads it. Falling ill costs {p.illness_cost:g}."
            f" An illness lasts about {p.illness_days:g} days; then one is immune."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        town, (ill, home) = self.params.inhabitants, state["days"].T.tolist()
        answered = len(set(ill)) > 1 and len(set(home)) > 1
        curve = [*ill, state["ill"]]
        return {
            **self.metrics(state),
            "peak": max(curve) / town,
            "peak_day": curve.index(max(curve)),
            "waves": waves(curve, floor=max(2, town // 1000)),
            "days": state["day"],
            "isolation_follows_illness": correlation(home, ill) if answered else 0.0,
        }

    def _length(self, days: float) -> int:
        """What `course` holds when an illness or an immunity begins."""
        return int(days) if self.params.durations == "fixed" else 1

    def _ending(self, those: Places, course: Course, days: float, draws: np.random.Generator) -> Ids:
        """Who of those that are ill, or immune, is so for the last day."""
        fixed = self.params.durations == "fixed"
        ends = np.abs(course[those]) == 1 if fixed else draws.random(len(those)) < 1 / days
        return those[ends].astype(np.int32)

    def _out(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> NDArray[np.bool_]:
        """Who goes out [N]: agents as they decided, the crowd by its settings."""
        p = self.params
        out = np.ones(p.inhabitants, np.bool_)
        if p.fear:
            home = -math.expm1(-p.fear * state["ill"] / p.inhabitants)
            out = rng.generator("fear").random(p.inhabitants) >= home
        if p.ill_stay:
            sick = np.flatnonzero(state["course"] > 0)
            out[sick] &= rng.generator("sick").random(len(sick)) >= p.ill_stay
        for agent, place in state["agents"].items():
            out[place] = agent not in actions or actions[agent].payload == "out"
        return out

    def _infected(self, state: State, spreading: Places, out: NDArray[np.bool_], draws: np.random.Generator) -> Ids:
        """Who falls ill today, in order: by the ill who go out."""
        contact, town = self.params.contact, self.params.inhabitants
        at_risk: NDArray[np.bool_] = (state["course"] == 0) & out
        if isinstance(contact, Mixing):
            # All are alike: how many fall ill, and then which, are two draws instead of one for everybody.
            those = np.flatnonzero(at_risk).astype(np.int32)
            chance = -math.expm1(-contact.r0 / self.params.illness_days * len(spreading) / town)
            count = draws.binomial(len(those), chance)
            return np.sort(draws.choice(those, count, replace=False, shuffle=False))
        met = np.zeros(town, np.bool_)
        met[contacts(contact, town, state["contacts"]).drawn(spreading, contact.chance, draws)] = True
        return np.flatnonzero(met & at_risk).astype(np.int32)

    def _feedback(self, state: State, fallen: Sequence[str], out: NDArray[np.bool_]) -> list[Feedback]:
        told, ill = [], set(fallen)
        for agent, place in state["agents"].items():
            fell = agent in ill
            value = self.params.income * bool(out[place]) - self.params.illness_cost * fell
            told.append(Feedback("environment", agent, value, "You fell ill." if fell else ""))
        return told

    def _friends(self, state: State, fallen: Sequence[str]) -> list[Spawn]:
        """One for each who fell ill, as long as there is a crowd. Names say nothing about whose friends they are."""
        if not self.params.friends:
            return []
        crowd = self.params.inhabitants - len(state["agents"])
        return [
            Spawn(agent, Seat(f"friend-{state['day']}-{number}", Profile(role=f"a friend of {agent}, who fell ill")))
            for number, agent in enumerate(fallen[:crowd])
        ]

    def _talk(self, state: State, out: NDArray[np.bool_]) -> list[Draft]:
        """What everybody could see, and no more: where an agent was."""
        if not self.params.talk:
            return []
        words = {True: "I went out today.", False: "I stayed at home today."}
        where = [(agent, bool(out[place])) for agent, place in state["agents"].items()]
        return [Draft(agent, words[went], data={"home": not went}) for agent, went in where]

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        town = 10_000
        short: dict[str, Any] = {"inhabitants": town, "ill_at_start": 100, "illness_days": 1, "durations": "fixed"}
        source = "Kermack and McKendrick: the share never infected is s = s0 * exp(-R0 * (1 - s))"
        mixing = [
            Oracle(
                f"final size under complete mixing at R0 = {r0}",
                game(contact={"kind": "mixing", "r0": r0}, **short),
                _infections,
                exact=final_size(r0, start=100 / town),
                source=source,
            )
            for r0 in (0.5, 1.5, 2.0, 3.0)
        ]
        return [
            *mixing,
            Oracle(
                "the ill stay at home every other day, illness of varying length",
                game(
                    contact={"kind": "mixing", "r0": 4.0},
                    ill_stay=0.5,
                    illness_days=2,
                    **{key: short[key] for key in ("inhabitants", "ill_at_start")},
                ),
                _infections,
                exact=final_size(2.0, start=100 / town),
                source=source + "; R0 counts days outside only",
            ),
            Oracle(
                "final size where everybody meets six others",
                game(
                    contact={"kind": "regular", "degree": 6, "chance": 0.2},
                    **{**short, "illness_days": 2},
                ),
                _infections,
                exact=regular_final_size(6, 1 - 0.8**2, start=100 / town),
                source="Newman, Phys. Rev. E 66, 016128 (2002): percolation on a random regular graph",
            ),
        ]


_NOBODY = np.zeros(0, np.intp)


def _infections(result: Result) -> float:
    return result.metrics[-1]["infections"]


def game(agents: Sequence[tuple[str, str, Mapping[str, float]]] = (), **params: Any) -> SimulationSpec:
    """A town with scripted agents, each an id, a policy and its attributes; without any, a crowd alone."""
    settings = EpidemicParams.model_validate(params)
    people = [
        AgentSpec(id=name, profile=Profile(attributes=dict(own)), brain=ScriptedBrain(kind="scripted", policy=policy))
        for name, policy, own in agents
    ] or [
        AgentSpec(id=OBSERVER, profile=Profile(role=OBSERVER), brain=ScriptedBrain(kind="scripted", policy="careless"))
    ]
    return SimulationSpec(scenario="epidemic", params=params, agents=tuple(people), max_ticks=settings.days)


def careless(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Always goes out."""
    return answer("out")


def considerate(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Stays at home when ill, on a `share` of the days (attribute; 1 unless set)."""
    stays = observation.facts["ill"] and rng.uniform("stay") < float(profile.attributes.get("share", 1.0))
    return answer("home" if stays else "out")


def fearful(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Stays at home when ill, or when not immune and more than `threshold` (attribute; 0.05) of the town are ill."""
    facts = observation.facts
    many = facts["share"] > float(profile.attributes.get("threshold", 0.05)) and not facts["immune"]
    return answer("home" if facts["ill"] or many else "out")


def conformist(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Stays at home when ill, or when most of those it hears did."""
    heard = [message.data["home"] for message in observation.messages]
    return answer("home" if observation.facts["ill"] or sum(heard) * 2 > len(heard) else "out")


Epidemic.scripted = {
    "careless": careless,
    "considerate": considerate,
    "fearful": fearful,
    "conformist": conformist,
}
