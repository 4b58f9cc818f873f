"""Robots tidy a room together: each fetches things that lie about and puts them into a box.

After the survey's embodied rows (Chen et al. 2309.15943, Mandi et al. 2307.04738, Zhang et al. 2307.02485). Robots may
talk and decide for themselves (decentralised) or be sent by a `planner` (centralised, with a star of which the planner
is the hub). Steps fail with the chance `slip`. The room is calculated, or it is real: an agent with the role `actuator`
then carries the steps out and answers with what its sensors say (`tidying_actuator.py`).

A tick is one step of all robots: the planner sends orders, robots choose, the step is carried out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.config.simulation_topology import FullTopology, StarTopology
from steerline.errors import SimulationError
from steerline.simulation.action import Action, Choice, Structured
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.tidying_floor import BOX, WAIT, Floor, best_plan, carry_out, distance, fault
from steerline.simulation.scenarios.tidying_policies import SCRIPTED, twin

PLANNER, ACTUATOR = "planner", "actuator"
"""The roles of agents that are no robots."""
THINGS = ("ball", "book", "brick", "cup", "doll", "hat", "key", "pen", "shoe", "spoon")

Stage = Literal["plan", "move", "act"]
Coordinates = tuple[int, int]


class TidyingParams(Spec):
    """Settings of the room."""

    width: int = Field(default=8, ge=1)
    """Cells from left to right."""
    height: int = Field(default=6, ge=1)
    """Cells from bottom to top."""
    box: Coordinates = (0, 0)
    """Where things belong; robots start there."""
    objects: dict[str, Coordinates] | None = None
    """Things and where they lie; none draws `count` of them."""
    count: int = Field(default=4, ge=1, le=len(THINGS))
    """Things drawn."""
    slip: float = Field(default=0.0, ge=0, lt=1)
    """Chance that a robot's step fails."""
    steps: int = Field(default=200, ge=1)
    """Steps after which it ends, tidy or not."""
    talk: bool = True
    """Whether robots say what they go for."""

    @model_validator(mode="after")
    def _everything_is_in_the_room(self) -> TidyingParams:
        for name, (x, y) in {BOX: self.box, **(self.objects or {})}.items():
            if not (0 <= x < self.width and 0 <= y < self.height):
                raise misfit(f"{name} lies outside the room", "box" if name == BOX else "objects")
        if reserved := {BOX, WAIT} & (self.objects or {}).keys():
            raise misfit(f"no thing can be called {reserved.pop()}", "objects")
        return self


class Tidying(Scenario[TidyingParams]):
    """Robots, things and a box."""

    Params = TidyingParams
    coverage = Coverage(
        domain="embodied",
        interface=frozenset({"sandbox", "physical"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"cooperative"}),
        structure=frozenset({"centralised", "decentralised"}),
        feedback=frozenset({"environment", "agents"}),
        adjustment=frozenset({"memory"}),
    )
    scripted = SCRIPTED

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        roles = {seat.id: seat.profile.role for seat in seats}
        robots = [agent for agent, role in roles.items() if role not in (PLANNER, ACTUATOR)]
        others = {role: [a for a, own in roles.items() if own == role] for role in (PLANNER, ACTUATOR)}
        if not robots:
            raise SimulationError(
                "there are no robots", expected=f"an agent with no role, or neither {PLANNER} nor {ACTUATOR}"
            )
        for role, agents in others.items():
            if len(agents) > 1:
                raise SimulationError(f"there can be one {role}", got=", ".join(agents), expected="at most one")
        floor = {
            "robots": {robot: {"at": list(self.params.box), "holds": None} for robot in robots},
            "objects": self._objects(rng),
            "stored": [],
        }
        return {
            "floor": floor,
            "planner": next(iter(others[PLANNER]), None),
            "actuator": next(iter(others[ACTUATOR]), None),
            "stage": "plan" if others[PLANNER] else "move",
            "commands": {},  # of this step
            "step": 0,
            "waits": 0,  # steps of robots that waited
            "clashes": 0,  # steps of robots that went for what another one went for
            "surprises": 0,  # steps of robots that did not end as they should have
            "faults": 0,  # readings that could not be
        }

    def who_acts(self, state: State) -> Sequence[str]:
        actors: dict[Stage, Sequence[str]] = {
            "plan": (state["planner"],),
            "move": tuple(state["floor"]["robots"]),
            "act": (state["actuator"],),
        }
        return actors[state["stage"]]

    def observe(self, state: State, agent: str) -> Observation:
        floor, facts = state["floor"], {"floor": state["floor"], "box": list(self.params.box), "stage": state["stage"]}
        if state["stage"] == "act":
            told = ", ".join(f"{robot}: {target}" for robot, target in state["commands"].items())
            facts = {**facts, "commands": state["commands"], "slip": self.params.slip}
            text = (
                f"Carry out one step. {told}. A step fails with the chance {self.params.slip:g}.\n{self._room(floor)}"
            )
            return Observation(_reading(floor), text, facts=facts)
        if state["stage"] == "plan":
            return Observation(_orders(floor), f"{self._room(floor)}\nWhom do you send for what?", facts=facts)
        own = floor["robots"][agent]
        options = (BOX, WAIT) if own["holds"] else (*sorted(floor["objects"]), WAIT)
        steps = {name: distance(own["at"], at) for name, at in sorted(floor["objects"].items())}
        ways = ", ".join(f"{name} {steps[name]}" for name in steps)
        do = f"You carry the {own['holds']}." if own["holds"] else f"Steps from you: {ways or 'nothing is left'}."
        return Observation(Choice(options, default=WAIT), f"{self._room(floor)}\nYou are {agent}. {do}", facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        if state["stage"] == "plan":
            orders = {robot: target for action in actions.values() for robot, target in action.payload.items()}
            told = [
                Draft(state["planner"], f"{robot}, go for the {target}.", data={"order": target}, recipients=(robot,))
                for robot, target in orders.items()
            ]
            return Resolution({**state, "stage": "move"}, messages=told, again=True)
        if state["stage"] == "act":
            reading = next((action.payload for action in actions.values()), state["floor"])
            return self._stepped(state, reading, state["commands"])
        commands = {robot: action.payload for robot, action in actions.items()}
        talk = [Draft(robot, f"I go for the {target}.", data={"target": target}) for robot, target in commands.items()]
        said = talk if self.params.talk else []
        if state["actuator"] is not None:
            return Resolution({**state, "stage": "act", "commands": commands}, messages=said, again=True)
        floor = twin(state["floor"], commands, self.params.box, self.params.slip, rng)
        return self._stepped(state, floor, commands, said)

    def done(self, state: State) -> bool:
        return not _left(state["floor"]) or state["step"] >= self.params.steps

    def metrics(self, state: State) -> Mapping[str, float]:
        stored, left = len(state["floor"]["stored"]), _left(state["floor"])
        return {
            "stored": stored / (stored + left) if stored + left else 1.0,
            **{name: float(state[name]) for name in ("waits", "clashes", "surprises", "faults")},
        }

    def rules(self) -> str:
        p = self.params
        return (
            f"Robots tidy a room of {p.width} x {p.height} cells. At each step a robot goes one cell towards what it"
            " chose; once there, it takes the thing, or puts what it carries into the box. It carries one thing at a"
            f" time. The box is at {_at(p.box)}. Be done soon, and do not go for what another robot goes for."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        return {**self.metrics(state), "steps": state["step"], "tidy": not _left(state["floor"])}

    def _stepped(
        self, state: State, floor: Floor, commands: Mapping[str, str], said: Sequence[Draft] = ()
    ) -> Resolution:
        """The world after a step that led to this floor."""
        before, wrong = state["floor"], fault(floor, state["floor"])
        after = before if wrong else floor
        surprised = [r for r in commands if after["robots"][r] != self._expected(before, r, commands[r])]
        targets = [target for target in commands.values() if target not in (BOX, WAIT)]
        new = {
            **state,
            "floor": after,
            "stage": "plan" if state["planner"] is not None else "move",
            "commands": {},
            "step": state["step"] + 1,
            "waits": state["waits"] + sum(target == WAIT for target in commands.values()),
            "clashes": state["clashes"] + len(targets) - len(set(targets)),
            "surprises": state["surprises"] + len(surprised),
            "faults": state["faults"] + (wrong is not None),
        }
        put = [robot for robot, own in before["robots"].items() if own["holds"] and not after["robots"][robot]["holds"]]
        feedback = [Feedback("environment", robot, 1.0, "Put away.") for robot in put]
        feedback += [Feedback("environment", robot, 0.0, "The step failed.") for robot in surprised]
        event = {"commands": dict(commands), "floor": after, **({"fault": wrong} if wrong else {})}
        return Resolution(new, [event], feedback, said)

    def _expected(self, before: Floor, robot: str, target: str) -> Mapping[str, Any]:
        """How a robot would stand after its step, if it were alone and the step did not fail."""
        floor = carry_out(before, {robot: target}, self.params.box, lambda _: False, lambda _: 0.0)
        own: Mapping[str, Any] = floor["robots"][robot]
        return own

    def _objects(self, rng: CounterRng) -> dict[str, list[int]]:
        p = self.params
        if p.objects is not None:
            return {name: list(at) for name, at in p.objects.items()}
        names = rng.shuffled(THINGS, "things")[: p.count]
        return {
            name: [rng.integer(0, p.width - 1, "x", name), rng.integer(0, p.height - 1, "y", name)]
            for name in sorted(names)
        }

    def _room(self, floor: Floor) -> str:
        things = ", ".join(f"{name} at {_at(at)}" for name, at in sorted(floor["objects"].items()))
        robots = ", ".join(
            f"{robot} at {_at(own['at'])}" + (f" with the {own['holds']}" if own["holds"] else "")
            for robot, own in floor["robots"].items()
        )
        return f"On the floor: {things or 'nothing'}. The box is at {_at(self.params.box)}. Robots: {robots}."

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        one = {"cup": (3, 2), "book": (1, 0)}
        alone = (2 * 5 + 2) + (2 * 1 + 2)
        source = "steps succeed independently: n of them take n / (1 - slip) on average"
        layout = {"cup": (5, 3), "book": (1, 4), "pen": (6, 0), "hat": (2, 2), "key": (7, 5)}
        robots = {"a": "obedient", "b": "obedient"}
        start = {"robots": {name: {"at": [0, 0], "holds": None} for name in robots}, "objects": layout, "stored": []}
        return [
            Oracle("a robot alone", game({"a": "nearest"}, objects=one, slip=0.25), _steps, alone / 0.75, source),
            Oracle(
                "a robot alone, through an actuator",
                game({"a": "nearest"}, actuator="twin", objects=one, slip=0.25),
                _steps,
                alone / 0.75,
                source,
            ),
            Oracle(
                "a planner reaches the shortest plan",
                game(robots, planner="shortest", objects=layout),
                _steps,
                best_plan(start, (0, 0))[0],
                "the best of all divisions of the things",
            ),
            Oracle(
                "two robots, a thing for each",
                game(
                    dict.fromkeys("ab", "owner"),
                    owns={"a": "cup", "b": "pen"},
                    objects={"cup": (3, 2), "pen": (1, 3)},
                    slip=0.25,
                ),
                _steps,
                slowest((12, 10), slip=0.25),
                "the larger of two sums of geometric numbers",
            ),
        ]


def game(
    robots: Mapping[str, str],
    planner: str | None = None,
    actuator: str | None = None,
    owns: Mapping[str, str] | None = None,
    **params: Any,
) -> SimulationSpec:
    """A room with scripted robots.

    Args:
        robots: policy by id.
        planner: policy of a planner, who then stands in the middle of a star.
        actuator: policy that carries steps out; none lets the scenario do it.
        owns: by robot, the thing that is its own, for the policy `owner`.
        params: the scenario's settings.
    """
    profiles = {robot: Profile(attributes={"owns": own}) for robot, own in (owns or {}).items()}
    agents = [(robot, profiles.get(robot, Profile()), policy) for robot, policy in robots.items()]
    agents += [(PLANNER, Profile(role=PLANNER), planner)] if planner else []
    agents += [(ACTUATOR, Profile(role=ACTUATOR), actuator)] if actuator else []
    specs = tuple(
        AgentSpec(id=name, profile=profile, brain=ScriptedBrain(kind="scripted", policy=policy))
        for name, profile, policy in agents
    )
    topology = StarTopology(kind="star", hub=PLANNER) if planner else FullTopology(kind="full")
    steps = TidyingParams.model_validate(params).steps
    return SimulationSpec(scenario="tidying", params=params, agents=specs, topology=topology, max_ticks=steps)


def slowest(lengths: Sequence[int], slip: float) -> float:
    """Expected steps until all robots have done errands of these lengths, where steps fail with the chance `slip`."""
    from scipy.stats import binom

    total, step, open_still = 0.0, 0, 1.0
    while open_still > 1e-12:
        total += open_still
        step += 1
        open_still = 1.0 - math.prod(float(binom.sf(length - 1, step, 1 - slip)) for length in lengths)
    return total


def _steps(result: Result) -> float:
    return float(result.outcome["steps"])


def _left(floor: Floor) -> int:
    """Things that are not in the box yet."""
    return len(floor["objects"]) + sum(own["holds"] is not None for own in floor["robots"].values())


def _at(cell: Sequence[int]) -> str:
    return f"({cell[0]}, {cell[1]})"


def _orders(floor: Floor) -> Structured:
    target = {"enum": [*sorted(floor["objects"]), BOX, WAIT]}
    robots = dict.fromkeys(floor["robots"], target)
    return Structured({"type": "object", "properties": robots, "additionalProperties": False}, default={})


def _reading(floor: Floor) -> Structured:
    """What sensors say: a floor. If it cannot be read, nothing is taken to have moved."""
    cell = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
    robot = {
        "type": "object",
        "properties": {"at": cell, "holds": {"type": ["string", "null"]}},
        "required": ["at", "holds"],
        "additionalProperties": False,
    }
    fields = {
        "robots": {"type": "object", "additionalProperties": robot},
        "objects": {"type": "object", "additionalProperties": cell},
        "stored": {"type": "array", "items": {"type": "string"}},
    }
    schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return Structured(schema, default=dict(floor))
