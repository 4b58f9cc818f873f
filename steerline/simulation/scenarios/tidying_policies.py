"""Scripted brains of the tidying scenario: robots, planners, and the twin of a real room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steerline.config.simulation_agents import Profile
from steerline.simulation.action import Choice
from steerline.simulation.canonical import canonical
from steerline.simulation.observation import Observation
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Policy
from steerline.simulation.scenarios.tidying_floor import BOX, WAIT, Floor, best_plan, carry_out, distance


def nearest(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Goes for what is nearest."""
    return answer(_nearest(observation, ()))


def polite(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Goes for what is nearest and not what a robot that comes before it by name said it goes for."""
    said = [
        m.data["target"] for m in observation.messages if "target" in (m.data or {}) and m.sender < observation.agent
    ]
    return answer(_nearest(observation, said))


def obedient(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Does what the planner said, else what `nearest` does."""
    orders = [message.data["order"] for message in observation.messages if "order" in (message.data or {})]
    legal = observation.legal
    if orders and isinstance(legal, Choice) and orders[-1] in legal.options:
        return answer(orders[-1])
    return nearest(observation, profile, rng)


def owner(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Goes for its own thing (attribute `owns`) and nothing else."""
    facts = observation.facts
    if facts["floor"]["robots"][observation.agent]["holds"]:
        return answer(BOX)
    own = profile.attributes.get("owns")
    return answer(own if own in facts["floor"]["objects"] else WAIT)


def shortest(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """A planner that sends everybody by the shortest plan."""
    return canonical(best_plan(observation.facts["floor"], observation.facts["box"])[1]).decode()


def alphabetical(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """A planner that deals things out by name, as if they all lay equally far."""
    floor = observation.facts["floor"]
    free = [robot for robot, own in floor["robots"].items() if not own["holds"]]
    return canonical(dict(zip(free, sorted(floor["objects"]), strict=False))).decode()


def calculated(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """An actuator that calculates what a step would have done: the twin of the real ones."""
    facts = observation.facts
    return canonical(twin(facts["floor"], facts["commands"], facts["box"], facts["slip"], rng)).decode()


SCRIPTED: Mapping[str, Policy] = {
    "nearest": nearest,
    "polite": polite,
    "obedient": obedient,
    "owner": owner,
    "shortest": shortest,
    "alphabetical": alphabetical,
    "twin": calculated,
}


def twin(floor: Floor, commands: Mapping[str, str], box: Sequence[int], slip: float, rng: CounterRng) -> Floor:
    """A step of the calculated room."""
    return carry_out(
        floor,
        commands,
        box,
        slips=lambda robot: rng.uniform("slip", robot) < slip,
        turn=lambda robot: rng.uniform("turn", robot),
    )


def _nearest(observation: Observation, taken: Sequence[str]) -> str:
    """The box with full hands; else the nearest thing that is not taken, else the nearest one."""
    floor = observation.facts["floor"]
    own = floor["robots"][observation.agent]
    if own["holds"]:
        return BOX
    steps = {name: distance(own["at"], at) for name, at in sorted(floor["objects"].items())}
    free = [name for name in steps if name not in taken] or list(steps)
    return min(free, key=lambda name: steps[name]) if free else WAIT
