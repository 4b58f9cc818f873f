"""The epidemic of `steerline.simulation.scenarios.epidemic` in Mesa, with the same rules: one object a person.

Everybody decides on the same snapshot, as there; the order in which agents are asked therefore does not matter, and
they are asked in Mesa's fastest way (`AgentSet.do`), or in that of its guide (`shuffle_do`, and a `DataCollector`). How
many are well, ill and immune is kept for each day, as there; nothing is logged.
"""

from __future__ import annotations

import math
import time
from collections import Counter

import mesa

from steerline.simulation.scenarios.epidemic import EpidemicParams
from steerline.simulation.scenarios.epidemic_contacts import Mixing, contacts

SUSCEPTIBLE, ILL, IMMUNE = 0, 1, 2
NEVER = 10**9
COUNTS = {
    name: lambda town, health=health: sum(person.health == health for person in town.agents)
    for name, health in (("susceptible", SUSCEPTIBLE), ("ill", ILL), ("immune", IMMUNE))
}


class Person(mesa.Agent):
    """One inhabitant."""

    def __init__(self, model: Town) -> None:
        super().__init__(model)
        self.health = SUSCEPTIBLE
        self.until = NEVER
        self.falls_ill = False
        self.neighbours: list[Person] = []

    def meet(self) -> None:
        """Decide whether one falls ill today, by what the morning looked like."""
        if self.health == SUSCEPTIBLE:
            self.falls_ill = self.model.random.random() < self.model.chance

    def spread(self) -> None:
        """Infect neighbours, where people meet on a network."""
        if self.health == ILL:
            draw, chance = self.model.random.random, self.model.chance
            for other in self.neighbours:
                if other.health == SUSCEPTIBLE and draw() < chance:
                    other.falls_ill = True

    def turn(self) -> None:
        """Go into the next day."""
        if self.falls_ill:
            self.health, self.falls_ill = ILL, False
            self.until = self.model.day + self.model.lasting(self.model.params.illness_days)
            self.model.infections += 1
        elif self.until <= self.model.day:
            if self.health == ILL:
                self.health, self.until = IMMUNE, NEVER
                if self.model.params.immunity_days is not None:
                    self.until = self.model.day + self.model.lasting(self.model.params.immunity_days)
            else:
                self.health, self.until = SUSCEPTIBLE, NEVER


class Town(mesa.Model):
    """All inhabitants."""

    def __init__(self, params: EpidemicParams, seed: int, *, as_in_its_guide: bool = False) -> None:
        super().__init__(seed=seed)
        self.ask = self.agents.shuffle_do if as_in_its_guide else self.agents.do
        self.collector = mesa.DataCollector(COUNTS) if as_in_its_guide else None
        self.params = params
        self.day = 0
        self.infections = params.ill_at_start
        self.chance = 0.0
        self.history: list[Counter[int]] = []
        people = [Person(self) for _ in range(params.inhabitants)]
        for person in self.random.sample(people, params.ill_at_start):
            person.health, person.until = ILL, self.lasting(params.illness_days) - 1
        if not isinstance(params.contact, Mixing):
            town = contacts(params.contact, params.inhabitants, seed)
            for place, person in enumerate(people):
                row = town.others[town.starts[place] : town.starts[place + 1]]
                person.neighbours = [people[other] for other in row]
            self.chance = params.contact.chance

    def lasting(self, mean: float) -> int:
        """Days of an illness or immunity: geometric, by inversion."""
        return 1 + int(math.log(1.0 - self.random.random()) / math.log1p(-1.0 / mean))

    def step(self) -> None:
        """One day."""
        counts = Counter(person.health for person in self.agents)
        if self.collector is None:
            self.history.append(counts)
        else:
            self.collector.collect(self)
        if isinstance(self.params.contact, Mixing):
            rate = self.params.contact.r0 / self.params.illness_days
            self.chance = -math.expm1(-rate * counts[ILL] / self.params.inhabitants)
            self.ask("meet")
        else:
            self.ask("spread")
        self.ask("turn")
        self.day += 1


def infections(params: EpidemicParams, seed: int, days: int) -> float:
    """Infections per inhabitant after some days."""
    town = Town(params, seed)
    for _ in range(days):
        town.step()
    return town.infections / params.inhabitants


def seconds(params: EpidemicParams, seed: int, days: int, *, as_in_its_guide: bool = False) -> float:
    """How long the days take, in processor time, without building the town."""
    town = Town(params, seed, as_in_its_guide=as_in_its_guide)
    start = time.process_time()
    for _ in range(days):
        town.step()
    return time.process_time() - start
