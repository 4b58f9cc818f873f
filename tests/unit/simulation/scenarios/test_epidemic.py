"""The epidemic against its oracles, and what its days log."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import Profile
from steerline.errors import SimulationError
from steerline.inference.request import GenRequest
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Seat
from steerline.simulation.scenarios.epidemic import Epidemic, EpidemicParams, game
from steerline.simulation.scenarios.epidemic_contacts import (
    RegularContacts,
    ScaleFreeContacts,
    SmallWorldContacts,
    contacts,
)
from steerline.simulation.scenarios.epidemic_theory import final_size, regular_final_size, waves
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.worlds import MODEL, Server, llm, scripted

ANN = [("ann", "careless", {})]
NETWORKS = [
    RegularContacts(kind="regular"),
    SmallWorldContacts(kind="small_world"),
    ScaleFreeContacts(kind="scale_free"),
]


@pytest.mark.parametrize("oracle", Epidemic.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


@pytest.mark.parametrize(
    ("r0", "size"), [(1.2, 0.314), (1.5, 0.583), (2.0, 0.797), (2.5, 0.893), (3.0, 0.940), (0.9, 0)]
)
def test_final_sizes_are_those_of_the_textbook(r0: float, size: float) -> None:
    assert final_size(r0) == pytest.approx(size, abs=6e-4)


def test_a_graph_of_many_neighbours_comes_near_complete_mixing() -> None:
    assert regular_final_size(10_000, 2.0 / 10_000) == pytest.approx(final_size(2.0), abs=1e-3)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.kind)
def test_links_hold_both_ways_once_and_to_others(network: RegularContacts) -> None:
    town = contacts(network, 500, 7)
    rows = [town.others[town.starts[i] : town.starts[i + 1]].tolist() for i in range(500)]
    assert all(len(row) == len(set(row)) and i not in row for i, row in enumerate(rows))
    assert all(i in rows[other] for i, row in enumerate(rows) for other in row)
    generator = np.random.Generator(np.random.Philox(0))
    assert sorted(town.drawn(np.array([3, 9]), 1.0, generator).tolist()) == sorted(rows[3] + rows[9])
    assert town.drawn(np.array([], np.intp), 1.0, generator).tolist() == []


def test_networks_have_the_degrees_that_they_promise() -> None:
    regular, small, free = (np.diff(contacts(network, 5000, 7).starts) for network in NETWORKS)
    assert np.mean(regular == 6) > 0.99
    assert small.mean() == pytest.approx(6, abs=0.05)
    assert free.mean() == pytest.approx(6, abs=0.1)
    assert free.max() > 10 * small.max()


def test_the_same_spec_gives_the_same_history_and_another_seed_another() -> None:
    spec = game(ANN, contact={"kind": "small_world", "degree": 6, "chance": 0.2}, inhabitants=300)
    assert run(spec).hash == run(spec).hash
    assert run(spec).hash != run(spec.model_copy(update={"seed": 1})).hash


def everybody(result: Result) -> np.ndarray:
    """Health of all, from the first day and the logged deltas alone."""
    spec = result.spec
    params = EpidemicParams.model_validate(spec.params)
    seats = [Seat(agent.id) for agent in spec.agents]
    health = np.sign(Epidemic(params).reset(seats, CounterRng(spec.seed).within("reset"))["course"])
    for event in result.of_kind("env.changed"):
        for name, now in (("infected", 1), ("recovered", -1), ("waned", 0)):
            health[event.payload[name]] = now
    return health


def test_the_logged_deltas_alone_tell_the_health_of_all() -> None:
    result = run(game(ANN, inhabitants=400, immunity_days=20, days=60))
    assert np.array_equal(everybody(result), np.sign(result.state["course"]))
    assert len(list(result.of_kind("env.changed"))) == result.tick == 60


def test_nobody_comes_or_goes() -> None:
    result = run(game(inhabitants=400, immunity_days=20, days=60))
    for values in result.metrics:
        assert values["susceptible"] + values["ill"] + values["immune"] == pytest.approx(1.0)


def test_behaviour_lowers_the_peak_and_makes_waves_of_a_disease_that_comes_back() -> None:
    settings = {"inhabitants": 3000, "contact": {"kind": "mixing", "r0": 3.0}}
    free, afraid = run(game(ANN, **settings)), run(game(ANN, **settings, fear=20))
    assert afraid.outcome["peak"] < 0.7 * free.outcome["peak"]
    assert free.outcome["waves"] == 1
    assert afraid.outcome["isolation_follows_illness"] > 0.9
    back = run(game(ANN, **settings, immunity_days=60, days=200))
    assert back.outcome["waves"] > 1
    assert back.metrics[-1]["ill"] > 0


def test_who_stays_at_home_neither_catches_nor_spreads() -> None:
    hermit = [("ann", "fearful", {"threshold": -1.0})]
    result = run(game(hermit, inhabitants=2, ill_at_start=1, contact={"kind": "mixing", "r0": 1000}))
    assert result.metrics[-1]["infections"] == 0.5


def test_an_agent_knows_its_own_health_and_nobody_elses() -> None:
    scenario = Epidemic(EpidemicParams(inhabitants=50, ill_at_start=25))
    state = scenario.reset([Seat(name) for name in "abcdefgh"], CounterRng(0))
    for place, agent in enumerate("abcdefgh"):
        seen = scenario.observe(state, agent)
        assert seen.facts["ill"] == (state["course"][place] > 0)
        assert seen.facts.keys() == {"day", "share", "ill", "immune"}
        assert "you are ill" not in seen.text
    ill = "abcdefgh"[int(np.flatnonzero(state["course"][:8] > 0)[0])]
    assert "Only you know: you are ill." in scenario.prompt(scenario.observe(state, ill), Profile()).user


def test_what_agents_tell_each_other_is_where_they_were() -> None:
    result = run(game([("ann", "careless", {}), ("bob", "considerate", {})], inhabitants=20, ill_at_start=20, days=1))
    told = {(event.agent, event.payload["blocks"][0]["text"]) for event in result.of_kind("msg.sent")}
    assert told == {("ann", "I went out today."), ("bob", "I stayed at home today.")}


def test_agents_that_hear_that_others_stay_at_home_do_so_too() -> None:
    people = [("ann", "fearful", {"threshold": -1.0}), ("bob", "conformist", {})]
    result = run(game(people, inhabitants=100, ill_at_start=1, contact={"kind": "mixing", "r0": 0}, days=3))
    assert [e.payload["payload"] for e in result.of_kind("action.taken") if e.agent == "bob"][:2] == ["out", "home"]


def test_a_crowd_alone_has_no_turns() -> None:
    result = run(game(inhabitants=50, days=3))
    assert result.tick == 3
    assert not list(result.of_kind("action.taken", "action.invalid", "feedback.given", "msg.sent"))


def test_an_illness_is_felt_as_a_loss() -> None:
    people = [("ann", "careless", {}), ("bob", "careless", {})]
    result = run(game(people, inhabitants=2, ill_at_start=1, contact={"kind": "mixing", "r0": 1000}))
    values = [event.payload["value"] for event in result.of_kind("feedback.given") if event.tick == 0]
    assert sorted(values) == [1.0 - 5.0, 1.0]


def test_what_cannot_be_read_is_a_day_outside_and_is_counted() -> None:
    scenario = Epidemic(EpidemicParams())
    seen = scenario.observe(scenario.reset([Seat("a")], CounterRng(0)), "a")
    assert scenario.parse("I will stay home.", seen.legal).payload == "home"
    parsed = scenario.parse("who knows", seen.legal)
    assert (parsed.payload, parsed.status) == ("out", "defaulted")


def fierce(params: dict[str, Any] | None = None, **changes: Any) -> SimulationSpec:
    """A town of 20 in which half are ill and everybody else who goes out falls ill on the first day."""
    town = {"inhabitants": 20, "ill_at_start": 10, "contact": {"kind": "mixing", "r0": 1000}, **(params or {})}
    return SimulationSpec.model_validate({"scenario": "epidemic", "max_ticks": 3, "params": town, **changes})


def test_an_agent_that_falls_ill_brings_in_a_friend_with_a_body_within_its_quota() -> None:
    agents = [{"id": name, "brain": scripted("considerate"), "spawn_quota": int(name < "e")} for name in "abcdefgh"]
    spec, store = fierce({"friends": True}, agents=agents), MemoryStore()
    for _ in range(3):
        result = run(spec, store=store, sim="s", ticks=1)
        store.drop_snapshots("s")
    fell = [e.agent for e in result.of_kind("feedback.given") if e.tick == 0 and e.payload["text"]]
    came = {e.agent: e.payload["parent"] for e in result.of_kind("agent.spawned")}
    assert sorted(came.values()) == [agent for agent in fell if agent < "e"] != []
    assert [e.agent for e in result.of_kind("spawn.refused")] == [agent for agent in fell if agent >= "e"] != []
    assert sorted(result.state["agents"].values()) == list(range(len(agents) + len(came)))
    assert came.keys() <= {e.agent for e in result.of_kind("action.taken") if e.tick == 1}
    assert result.hash == run(spec).hash  # a run that is rebuilt from its log lets the same in


def test_a_friend_takes_the_model_of_whom_it_knows_and_has_heard_of_the_illness() -> None:
    server = Server(lambda request: "ANSWER: out")
    agents = [{"id": name, "brain": llm(), "spawn_quota": 1} for name in "abcdefgh"]
    result = run(fierce({"friends": True}, agents=agents, models={"m": MODEL}), backends={"m": server})
    came = next(result.of_kind("agent.spawned"))
    prompt = next(request.messages[0].content for request in server.asked if request.agent == came.agent)
    assert f"You are a friend of {came.payload['parent']}, who fell ill." in prompt


def test_where_nobody_is_left_to_warn_nobody_comes() -> None:
    agents = [{"id": name, "brain": scripted("careless"), "spawn_quota": 1} for name in "ab"]
    result = run(fierce({"inhabitants": 2, "ill_at_start": 1, "friends": True}, agents=agents))
    assert result.state["infections"] == 2
    assert not list(result.of_kind("agent.spawned", "spawn.refused"))


def test_people_whom_a_model_invents_live_in_the_town() -> None:
    """What the model made up decides what it does: who is careful stays at home."""

    def model(request: GenRequest) -> str:
        if request.response_schema is not None:
            careful = "careful" if "Person 1 of 2" in request.messages[-1].content else "bold"
            return json.dumps({"role": "a nurse", "traits": [careful]})
        return "ANSWER: home" if "careful" in request.messages[0].content else "ANSWER: out"

    people = {"kind": "generated", "count": 2, "model": "m", "brain": llm(), "memory": {"kind": "window"}}
    result = run(fierce(population=people, models={"m": MODEL}), backends={"m": Server(model)})
    born = [event.payload["agent"]["profile"] for event in result.of_kind("agent.spawned")]
    assert [(one["provenance"], one["traits"]) for one in born] == [
        ("model_generated", ["careful"]),
        ("model_generated", ["bold"]),
    ]
    did = [event.payload["payload"] for event in result.of_kind("action.taken")]
    assert did == ["home", "out"] * 3


def test_fixed_durations_last_as_long_as_they_say() -> None:
    town = {"inhabitants": 10, "ill_at_start": 10, "illness_days": 3, "immunity_days": 5, "durations": "fixed"}
    result = run(game(ANN, contact={"kind": "mixing", "r0": 0}, **town))
    assert result.series("ill") == [1, 1, 0]
    state, scenario = result.state, Epidemic(EpidemicParams.model_validate(result.spec.params))
    immune = 0
    while np.any(state["course"]):
        state, immune = scenario.resolve(state, {}, CounterRng(0)).state, immune + 1
    assert immune == 5


def test_days_that_do_not_fit_into_a_byte_are_refused() -> None:
    with pytest.raises(ValidationError, match="whole and not too large"):
        EpidemicParams(durations="fixed", illness_days=127)


def test_more_agents_than_inhabitants_are_refused() -> None:
    with pytest.raises(SimulationError, match="too small"):
        run(game([(name, "careless", {}) for name in "abc"], inhabitants=2, ill_at_start=1))


@pytest.mark.parametrize(
    ("curve", "count"),
    [([1, 5, 50, 20, 3, 0], 1), ([1, 50, 10, 60, 5], 2), ([50, 30, 50, 30], 1), ([1, 2, 1], 0), ([9, 60], 1)],
)
def test_waves_are_peaks_with_a_fall_between(curve: list[int], count: int) -> None:
    assert waves(curve, floor=10) == count
