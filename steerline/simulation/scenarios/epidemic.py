"""An epidemic in a town: people fall ill by contact, recover, and may stay at home.

The classic model of Kermack and McKendrick (1927) in days. A healthy person falls ill with the chance
`1 - exp(-R0 / D * out / N)` under complete mixing (D the mean days of illness, `out` the ill who go out), or by each
day's contact with an ill neighbour on a network. Behaviour after Williams et al., "Epidemic Modeling with Generative
Agents", arXiv 2307.04986: people stay at home when they are ill or when many are.

The town is arrays and a day logs one delta. Agents with brains are its first inhabitants: they decide for their own
bodies and take part in everything else; the others follow the crowd's settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import correlation
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from steerline.config.base import Spec
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
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.epidemic_contacts import (
    ContactSpec,
    Ids,
    Mixing,
    contacts,
)
from steerline.simulation.scenarios.epidemic_theory import final_size, regular_final_size, waves

SUSCEPTIBLE, ILL, IMMUNE = 0, 1, 2
"""What `health` holds."""
NEVER = np.iinfo(np.int16).max
"""A day that never comes."""


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
    """Whether days of illness and immunity vary (the chance to end is the same every day) or are alike, rounded."""
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


class Epidemic(Scenario[EpidemicParams]):
    """An epidemic among thousands, some of whom decide for themselves."""

    Params = EpidemicParams
    coverage = Coverage(
        domain="disease",
        interface=frozenset({"sandbox"}),
        profiling=frozenset({"predefined", "model_generated"}),
        paradigm=frozenset({"cooperative"}),
        structure=frozenset({"decentralised"}),
        feedback=frozenset({"environment", "agents"}),
        adjustment=frozenset({"memory"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        p = self.params
        if max(len(seats), p.ill_at_start) > p.inhabitants:
            raise SimulationError(
                "the town is too small",
                got=p.inhabitants,
                expected=f"at least {max(len(seats), p.ill_at_start)}",
                fix="raise `params.inhabitants`",
            )
        health = np.zeros(p.inhabitants, np.uint8)
        until = np.full(p.inhabitants, NEVER, np.int16)
        first = rng.generator("first").choice(p.inhabitants, p.ill_at_start, replace=False)
        health[first] = ILL
        until[first] = self._last_day(-1, p.illness_days, len(first), rng.generator("illness"))
        return {
            "agents": [seat.id for seat in seats],  # inhabitants 0, 1, 2 and so on
            "health": health,  # [N] one of SUSCEPTIBLE, ILL, IMMUNE
            "until": until,  # [N] last day of illness or immunity, else NEVER
            "contacts": rng.integer(0, 2**63 - 1, "contacts"),  # key of the network
            "day": 0,
            "ill": np.array([p.ill_at_start], np.int32),  # by day, at its beginning
            "home": np.zeros(0, np.int32),  # by day
            "infections": p.ill_at_start,  # since the beginning
            "new": 0,  # infections of the last day
        }

    def who_acts(self, state: State) -> Sequence[str]:
        agents: Sequence[str] = state["agents"]
        return agents

    def observe(self, state: State, agent: str) -> Observation:
        health = int(state["health"][state["agents"].index(agent)])
        ill, town = int(state["ill"][-1]), self.params.inhabitants
        text = (
            f"Day {state['day'] + 1}. {ill} of the {town} people in your town are ill ({100 * ill / town:.1f} %)."
            " Do you go out today or stay at home?"
        )
        private = {SUSCEPTIBLE: "you feel well.", ILL: "you are ill.", IMMUNE: "you were ill and are immune now."}
        facts = {"day": state["day"], "share": ill / town, "ill": health == ILL, "immune": health == IMMUNE}
        return Observation(Choice(("out", "home"), default="out"), text, private=private[health], facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        day, out = state["day"], self._out(state, actions, rng)
        infected = self._infected(state, out, rng)
        over = np.flatnonzero(state["until"] <= day).astype(np.int32)
        recovered = over[state["health"][over] == ILL]
        waned = over[state["health"][over] == IMMUNE]
        health, until = state["health"].copy(), state["until"].copy()
        health[infected], health[recovered], health[waned] = ILL, IMMUNE, SUSCEPTIBLE
        until[infected] = self._last_day(day, self.params.illness_days, len(infected), rng.generator("illness"))
        if self.params.immunity_days is None:
            until[recovered] = NEVER
        else:
            until[recovered] = self._last_day(day, self.params.immunity_days, len(recovered), rng.generator("immunity"))
        until[waned] = NEVER
        home = len(out) - int(np.count_nonzero(out))
        new = {
            **state,
            "health": health,
            "until": until,
            "day": day + 1,
            "ill": np.append(state["ill"], np.int32(state["ill"][-1] + len(infected) - len(recovered))),
            "home": np.append(state["home"], np.int32(home)),
            "infections": state["infections"] + len(infected),
            "new": len(infected),
        }
        delta = {"day": day, "infected": infected, "recovered": recovered, "waned": waned, "home": home}
        return Resolution(new, [delta], self._feedback(state, new, out), self._talk(state, out))

    def done(self, state: State) -> bool:
        return state["day"] >= self.params.days or int(state["ill"][-1]) == 0

    def metrics(self, state: State) -> Mapping[str, float]:
        town, ill = self.params.inhabitants, int(state["ill"][-1])
        ever = int(np.count_nonzero(state["health"]))
        return {
            "susceptible": (town - ever) / town,
            "ill": ill / town,
            "immune": (ever - ill) / town,
            "infections": state["infections"] / town,
            "home": int(state["home"][-1]) / town,
            "reproduction": state["new"] / int(state["ill"][-2]) * self.params.illness_days,
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
        town, ill, home = self.params.inhabitants, state["ill"], state["home"]
        answered = len(home) > 1 and np.ptp(home) > 0 and np.ptp(ill[:-1]) > 0
        return {
            **self.metrics(state),
            "peak": int(ill.max()) / town,
            "peak_day": int(ill.argmax()),
            "waves": waves(ill.tolist(), floor=max(2, town // 1000)),
            "days": state["day"],
            "isolation_follows_illness": correlation(home.tolist(), ill[:-1].tolist()) if answered else 0.0,
        }

    def _last_day(self, day: int, mean: float, count: int, generator: np.random.Generator) -> NDArray[np.int16]:
        """Last days of what begins on the day after `day`."""
        if self.params.durations == "fixed":
            return np.full(count, min(NEVER, day + round(mean)), np.int16)
        return np.minimum(NEVER, day + generator.geometric(1 / mean, count)).astype(np.int16)

    def _out(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> NDArray[np.bool_]:
        """Who goes out [N]: agents as they decided, the crowd by its settings."""
        p, ill = self.params, state["health"] == ILL
        out = np.ones(p.inhabitants, np.bool_)
        if p.fear:
            home = -math.expm1(-p.fear * int(state["ill"][-1]) / p.inhabitants)
            out = rng.generator("fear").random(p.inhabitants) >= home
        if p.ill_stay:
            sick = np.flatnonzero(ill)
            out[sick] &= rng.generator("sick").random(len(sick)) >= p.ill_stay
        for place, agent in enumerate(state["agents"]):
            out[place] = agent not in actions or actions[agent].payload == "out"
        return out

    def _infected(self, state: State, out: NDArray[np.bool_], rng: CounterRng) -> Ids:
        """Who falls ill today, in order."""
        contact, generator = self.params.contact, rng.generator("infection")
        health: NDArray[np.uint8] = state["health"]
        spreading = np.flatnonzero((health == ILL) & out).astype(np.int32)
        if isinstance(contact, Mixing):
            at_risk = np.flatnonzero((health == SUSCEPTIBLE) & out)
            chance = -math.expm1(-contact.r0 / self.params.illness_days * len(spreading) / self.params.inhabitants)
            return at_risk[generator.random(len(at_risk)) < chance].astype(np.int32)
        met = contacts(contact, self.params.inhabitants, state["contacts"]).of(spreading)
        met = met[(health[met] == SUSCEPTIBLE) & out[met]]
        return np.unique(met[generator.random(len(met)) < contact.chance])

    def _feedback(self, before: State, after: State, out: NDArray[np.bool_]) -> list[Feedback]:
        told = []
        for place, agent in enumerate(before["agents"]):
            fell = before["health"][place] == SUSCEPTIBLE and after["health"][place] == ILL
            value = self.params.income * bool(out[place]) - self.params.illness_cost * bool(fell)
            told.append(Feedback("environment", agent, value, "You fell ill." if fell else ""))
        return told

    def _talk(self, state: State, out: NDArray[np.bool_]) -> list[Draft]:
        """What everybody could see, and no more: where an agent was."""
        if not self.params.talk:
            return []
        words = {True: "I went out today.", False: "I stayed at home today."}
        where = [(agent, bool(out[place])) for place, agent in enumerate(state["agents"])]
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
                    [("ann", "considerate", {"share": 0.5})],
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


def _infections(result: Result) -> float:
    return result.metrics[-1]["infections"]


def game(
    agents: Sequence[tuple[str, str, Mapping[str, float]]] = (("ann", "careless", {}),), **params: Any
) -> SimulationSpec:
    """A town with scripted agents, each an id, a policy and its attributes."""
    settings = EpidemicParams.model_validate(params)
    people = tuple(
        AgentSpec(id=name, profile=Profile(attributes=dict(own)), brain=ScriptedBrain(kind="scripted", policy=policy))
        for name, policy, own in agents
    )
    return SimulationSpec(scenario="epidemic", params=params, agents=people, max_ticks=settings.days)


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
