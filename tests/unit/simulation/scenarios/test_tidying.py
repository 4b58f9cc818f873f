"""Robots that tidy, against their oracles; and a machine that takes a seat."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, CustomBrain, Profile
from steerline.errors import SimulationError
from steerline.simulation.canonical import canonical
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Seat
from steerline.simulation.scenarios.tidying import ACTUATOR, Tidying, TidyingParams, game, slowest
from steerline.simulation.scenarios.tidying_floor import WAIT, best_plan, carry_out, fault

LAYOUT = {"cup": (5, 3), "book": (1, 4), "pen": (6, 0)}
TWO = dict.fromkeys(("ann", "bob"), "nearest")


def floor(objects: Mapping[str, Any] = LAYOUT, **robots: tuple[list[int], str | None]) -> dict[str, Any]:
    standing = {name: {"at": at, "holds": holds} for name, (at, holds) in robots.items()}
    return {"robots": standing, "objects": {name: list(at) for name, at in objects.items()}, "stored": []}


def step(before: dict[str, Any], **commands: str) -> dict[str, Any]:
    return carry_out(before, commands, (0, 0), lambda robot: False, lambda robot: float(robot == "ann"))


@pytest.mark.parametrize("oracle", Tidying.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


def test_the_slower_of_two_takes_longer_than_each() -> None:
    assert slowest((12,), slip=0.25) == pytest.approx(16)
    assert slowest((12, 10), slip=0.25) > 16
    assert slowest((12, 10), slip=0.0) == 12


def test_the_same_spec_gives_the_same_history_and_another_seed_another() -> None:
    spec = game(TWO, slip=0.2)
    assert run(spec).hash == run(spec).hash
    assert run(spec).hash != run(spec.model_copy(update={"seed": 1})).hash


def test_a_robot_goes_takes_and_puts_away() -> None:
    now = floor({"cup": (1, 1)}, ann=([0, 0], None))
    for _ in range(3):
        now = step(now, ann="cup")
    assert now["robots"]["ann"] == {"at": [1, 1], "holds": "cup"}
    for _ in range(3):
        now = step(now, ann="box")
    assert now == {"robots": {"ann": {"at": [0, 0], "holds": None}}, "objects": {}, "stored": ["cup"]}


def test_of_two_that_reach_for_one_thing_the_one_whose_turn_it_is_gets_it() -> None:
    now = step(floor({"cup": (2, 2)}, ann=([2, 2], None), bob=([2, 2], None)), ann="cup", bob="cup")
    assert (now["robots"]["ann"]["holds"], now["robots"]["bob"]["holds"]) == (None, "cup")


def test_no_step_changes_the_floor_that_it_started_from() -> None:
    before = floor(ann=([5, 3], None))
    copy = canonical(before)
    step(before, ann="cup")
    assert canonical(before) == copy


def test_what_cannot_be_done_is_a_step_without_effect() -> None:
    before = floor({"cup": (2, 2)}, ann=([0, 0], None), bob=([2, 2], "pen"))
    assert step(before, ann="box", bob="cup") == before
    assert step(before, ann="nothing", bob=WAIT) == before


def test_the_shortest_plan_shares_the_work() -> None:
    steps, plan = best_plan(floor({"cup": (5, 0), "pen": (5, 0)}, ann=([0, 0], None), bob=([0, 0], None)), (0, 0))
    assert steps == 12
    assert set(plan.values()) == {"cup", "pen"}
    assert best_plan(floor({}, ann=([3, 0], "hat")), (0, 0)) == (4, {"ann": "box"})


def test_too_many_things_to_plan_exactly_are_refused() -> None:
    many = {f"thing{n}": (1, 1) for n in range(21)}
    with pytest.raises(ValueError, match="too many"):
        best_plan(floor(many, ann=([0, 0], None), bob=([0, 0], None)), (0, 0))


def test_talk_keeps_robots_from_going_for_the_same_thing() -> None:
    objects = {"cup": (6, 0), "pen": (6, 1)}
    deaf = run(game(TWO, objects=objects)).outcome
    polite = run(game(dict.fromkeys(TWO, "polite"), objects=objects)).outcome
    assert polite["clashes"] < deaf["clashes"]
    assert polite["steps"] < deaf["steps"]


def test_a_planner_that_looks_at_distances_is_sooner_done() -> None:
    objects = {"a": (1, 0), "b": (1, 0), "c": (7, 5)}
    robots = dict.fromkeys(TWO, "obedient")
    steps = [
        run(game(robots, planner=planner, objects=objects)).outcome["steps"] for planner in ("shortest", "alphabetical")
    ]
    assert steps[0] < steps[1]


def test_orders_reach_the_robot_they_are_for() -> None:
    result = run(game(dict.fromkeys(TWO, "obedient"), planner="shortest", objects=LAYOUT))
    orders = [event.payload for event in result.of_kind("msg.sent") if event.agent == "planner" and event.tick == 0]
    assert [tuple(order["recipients"]) for order in orders] == [("ann",), ("bob",)]


class Machine:
    """A room of its own, as a real one would be: it remembers, takes its time, and its left arm is weak."""

    def __init__(self, weak: str = "") -> None:
        self.weak = weak
        self.steps = 0

    async def carry_out(self, floor: Mapping[str, Any], commands: Mapping[str, str]) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        self.steps += 1
        fails = self.steps % 2 == 1
        return carry_out(floor, commands, (0, 0), lambda robot: robot == self.weak and fails, lambda robot: 0.0)


class Sleeper:
    """Never answers."""

    async def carry_out(self, floor: Mapping[str, Any], commands: Mapping[str, str]) -> Mapping[str, Any]:
        return await asyncio.get_running_loop().create_future()


class Liar:
    """Loses a thing."""

    async def carry_out(self, floor: Mapping[str, Any], commands: Mapping[str, str]) -> Mapping[str, Any]:
        return {**floor, "objects": {}}


def physical(device: str, *, timeout_s: float = 10.0, steps: int = 200, **params: Any) -> SimulationSpec:
    settings = {"device": f"{__name__}:{device}", "timeout_s": timeout_s, "params": params}
    name = "steerline.simulation.scenarios.tidying_actuator:ActuatorBrain"
    seat = AgentSpec(
        id="lab", profile=Profile(role=ACTUATOR), brain=CustomBrain(kind="custom", name=name, params=settings)
    )
    spec = game(TWO, objects=LAYOUT, steps=steps)
    return spec.model_copy(update={"agents": (*spec.agents, seat)})


def taken(result: Result) -> list[Any]:
    return [event.payload["payload"] for event in result.of_kind("action.taken") if event.agent != "lab"]


def test_a_machine_at_the_seat_does_what_the_calculated_room_does() -> None:
    real, calculated = run(physical("Machine")), run(game(TWO, objects=LAYOUT))
    assert real.outcome["tidy"]
    assert real.state["floor"] == calculated.state["floor"]
    assert taken(real) == taken(calculated)


def test_steps_of_a_machine_that_went_otherwise_are_counted() -> None:
    result = run(physical("Machine", weak="bob"))
    assert result.outcome["tidy"]
    assert result.outcome["surprises"] > 0
    assert result.outcome["steps"] > run(physical("Machine")).outcome["steps"]


def test_a_reading_that_cannot_be_is_left_out_and_logged() -> None:
    result = run(physical("Liar", steps=3))
    assert result.outcome["faults"] == 3
    assert result.state["floor"]["objects"] == {name: list(at) for name, at in LAYOUT.items()}
    faults = [event.payload["fault"] for event in result.of_kind("env.changed")]
    assert faults == ["a thing is missing or doubled"] * 3


def test_a_machine_that_does_not_answer_pauses_the_run_and_gives_no_reading() -> None:
    result = run(physical("Sleeper", timeout_s=0.01))
    assert result.status == "paused"
    assert "did not finish its step" in result.reason
    assert not list(result.of_kind("env.changed"))


def test_readings_with_other_robots_are_faults() -> None:
    before = floor(ann=([0, 0], None))
    assert fault({**before, "robots": {}}, before) == "the robots are others"
    assert fault(before, before) is None


def test_what_cannot_be_read_is_a_wait_and_a_reading_is_no_movement() -> None:
    scenario = Tidying(TidyingParams(objects=LAYOUT))
    state = scenario.reset([Seat("ann"), Seat("lab", Profile(role=ACTUATOR))], CounterRng(0))
    seen = scenario.observe(state, "ann")
    assert scenario.parse("The cup looks dirty.", seen.legal).payload == "cup"
    parsed = scenario.parse("cup or pen?", seen.legal)
    assert (parsed.payload, parsed.status) == (WAIT, "defaulted")
    reading = scenario.observe({**state, "stage": "act"}, "lab").legal
    assert scenario.parse("{}", reading).payload == state["floor"]


def test_rooms_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="outside"):
        TidyingParams(objects={"cup": (8, 0)})
    with pytest.raises(ValidationError, match="can be called box"):
        TidyingParams(objects={"box": (1, 1)})
    scenario = Tidying(TidyingParams())
    with pytest.raises(SimulationError, match="no robots"):
        scenario.reset([Seat("lab", Profile(role=ACTUATOR))], CounterRng(0))
    with pytest.raises(SimulationError, match="one actuator"):
        scenario.reset([Seat(name, Profile(role=ACTUATOR if name != "a" else "")) for name in "abc"], CounterRng(0))
