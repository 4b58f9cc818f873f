"""Who can hear whom, in every topology."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from steerline.config.simulation_topology import TopologySpec
from steerline.errors import SimulationError
from steerline.simulation.action import Action
from steerline.simulation.message import Draft
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Seat
from steerline.simulation.topologies.named import topology_of
from tests.unit.simulation.chat import chat

RNG = CounterRng(3)


def hearers(agents: str, **spec: Any) -> dict[str, str]:
    topology = topology_of(TypeAdapter(TopologySpec).validate_python(spec))
    state = topology.start([Seat(name) for name in agents], RNG)
    return {name: "".join(sorted(topology.routes(state, Draft(name, "hi")))) for name in agents}


@pytest.mark.parametrize(
    ("spec", "links"),
    [
        ({"kind": "full"}, {"a": "bcd", "b": "acd", "c": "abd", "d": "abc"}),
        ({"kind": "none"}, {"a": "", "b": "", "c": "", "d": ""}),
        ({"kind": "ring"}, {"a": "bd", "b": "ac", "c": "bd", "d": "ac"}),
        ({"kind": "chain"}, {"a": "b", "b": "c", "c": "d", "d": ""}),
        ({"kind": "chain", "order": ["d", "c", "b", "a"]}, {"d": "c", "c": "b", "b": "a", "a": ""}),
        ({"kind": "star", "hub": "b"}, {"a": "b", "b": "acd", "c": "b", "d": "b"}),
        ({"kind": "tree"}, {"a": "bc", "b": "ad", "c": "a", "d": "b"}),
        ({"kind": "layered", "levels": [["a"], ["b", "c"], ["d"]]}, {"a": "bc", "b": "acd", "c": "abd", "d": "bc"}),
        (
            {"kind": "layered", "levels": [["a", "b"], ["c", "d"]], "within": False, "upward": False},
            {"a": "cd", "b": "cd", "c": "", "d": ""},
        ),
    ],
)
def test_set_shapes(spec: dict[str, Any], links: dict[str, str]) -> None:
    assert hearers("abcd", **spec) == links


@pytest.mark.parametrize(
    ("spec", "total"),
    [
        ({"kind": "small_world", "neighbours": 4, "rewire": 0.5}, 8 * 4),
        ({"kind": "scale_free", "links": 2}, 2 * 2 * 6),
        ({"kind": "random_regular", "degree": 3}, 8 * 3),
        ({"kind": "rewiring", "degree": 3}, 8 * 3),
    ],
)
def test_random_graphs_have_their_number_of_links_and_nobody_hears_himself(spec: dict[str, Any], total: int) -> None:
    links = hearers("abcdefgh", **spec)
    assert sum(map(len, links.values())) == total
    assert all(name not in heard for name, heard in links.items())
    assert links == hearers("abcdefgh", **spec)


def test_a_regular_graph_is_regular() -> None:
    assert {len(heard) for heard in hearers("abcdefgh", kind="random_regular", degree=3).values()} == {3}


def test_a_pool_reaches_the_subscribers_of_a_topic() -> None:
    topology = topology_of(
        TypeAdapter(TopologySpec).validate_python({"kind": "pool", "subscriptions": {"a": ["code"], "b": ["news"]}})
    )
    state = topology.start([Seat(name) for name in "abc"], RNG)
    assert list(topology.routes(state, Draft("c", "hi", channel="code"))) == ["a"]
    assert list(topology.routes(state, Draft("a", "hi", channel="news"))) == ["b", "c"]


def test_links_move_at_their_pace_and_keep_their_number() -> None:
    topology = topology_of(
        TypeAdapter(TopologySpec).validate_python({"kind": "rewiring", "degree": 2, "every": 2, "share": 1.0})
    )
    start = topology.start([Seat(name) for name in "abcdefgh"], RNG)
    assert topology.step(start, [], RNG.at(0)) == start
    moved = topology.step(start, [], RNG.at(1))
    assert moved != start
    assert all(len(set(heard) - {name}) == 2 for name, heard in moved.items())


def act(agent: str, payload: str) -> Action:
    return Action(agent, 0, payload, payload)


def test_pruning_silences_whom_nobody_agrees_with_and_ends_at_consensus() -> None:
    topology = topology_of(TypeAdapter(TopologySpec).validate_python({"kind": "pruned", "keep": 2}))
    state = topology.start([Seat(name) for name in "abc"], RNG)
    state = topology.step(state, [act("a", "7"), act("b", "9"), act("c", "7")], RNG)
    assert list(topology.order(state, ["a", "b", "c"])) == ["a", "c"]
    assert topology.finished(state) is None
    state = topology.step(state, [act("a", "7"), act("c", "7")], RNG)
    assert topology.finished(state) == "the agents agree"


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"kind": "star", "hub": "z"}, "hub z is no agent"),
        ({"kind": "layered", "levels": [["a"], ["b"]]}, "leaves c unreachable"),
        ({"kind": "chain", "order": ["a", "b"]}, "leaves c unreachable"),
        ({"kind": "small_world", "neighbours": 4}, "too few agents"),
        ({"kind": "scale_free", "links": 4}, "too few agents"),
        ({"kind": "random_regular", "degree": 4}, "too few agents"),
        ({"kind": "custom", "name": "nowhere"}, "no topology called nowhere"),
        ({"kind": "custom", "name": "builtins:dict"}, "is no topology"),
    ],
)
def test_what_does_not_fit_the_agents_is_refused(spec: dict[str, Any], what: str) -> None:
    with pytest.raises(SimulationError, match=what):
        hearers("abcd", **spec)


def test_a_regular_graph_of_odd_ends_is_refused() -> None:
    with pytest.raises(SimulationError, match="pairs of ends"):
        hearers("abcde", kind="random_regular", degree=3)


MASKS = {
    "kind": "masks",
    "nodes": ["a", "b", "c"],
    # Round 0: a and b are heard by c at once. Round 1: all hear what c said, and c itself.
    "spatial": [[[0, 0, 1], [0, 0, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, 0]]],
    "temporal": [[[0] * 3] * 3, [[0, 0, 0], [0, 0, 0], [1, 1, 1]]],
    "active": [[1, 1, 1], [1, 0, 1]],
}


def test_masks_carry_messages_inside_a_round_and_to_the_next() -> None:
    result = run(chat("echo", "greet", "echo", topology=MASKS, engine="sequential", max_ticks=5))
    said = {(event.agent, event.tick): event.payload["text"] for event in result.of_kind("action.taken")}
    assert said[("c", 0)] == "-,b at 0.1"
    assert said[("a", 1)] == "-,b at 0.1"
    assert said[("c", 1)] == "-,b at 0.1"
    assert ("b", 1) not in said
    assert (result.tick, result.reason) == (2, "the masks have no further round")


def test_masks_with_a_circle_inside_a_round_are_refused() -> None:
    circle = {**MASKS, "spatial": [[[0, 1, 0], [1, 0, 0], [0, 0, 0]], MASKS["spatial"][1]]}
    with pytest.raises(SimulationError, match="has a circle"):
        run(chat("echo", "greet", "echo", topology=circle, engine="sequential"))
