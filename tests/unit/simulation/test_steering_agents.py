"""An agent's steering is moved while its simulation runs, and nothing else of it."""

from __future__ import annotations

import asyncio

import pytest

from steerline.config.simulation_agents import AgentSpec
from steerline.config.simulation_running import ModelRef
from steerline.config.steering import SteeringSpec
from steerline.errors import SimulationError
from steerline.simulation.control import Controls
from steerline.simulation.replay import replay_strictly
from steerline.simulation.runner import run
from steerline.simulation.steering_agents import steered, steering_of
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.worlds import MODEL, Server, llm, scripted, spec

MODELS = {"m": ModelRef.model_validate(MODEL)}


def agent(brain: dict[str, object]) -> AgentSpec:
    return AgentSpec.model_validate({"id": "a", "brain": brain})


@pytest.mark.parametrize(
    "brain",
    [llm(), {"kind": "hybrid", "llm": llm(), "policy": "conditional"}, {"kind": "reviewed", "llm": llm()}],
    ids=["llm", "hybrid", "reviewed"],
)
def test_a_strength_moves_the_boost_wherever_the_model_stands_in_the_brain(brain: dict[str, object]) -> None:
    before = agent(brain)
    moved = steered(before, {"strength": 0.25}, MODELS)
    steering = steering_of(moved, MODELS)
    assert steering is not None
    assert steering.boost is not None
    assert steering.boost.strength == 0.25
    assert moved.brain.kind == before.brain.kind
    assert steering_of(before, MODELS) is None


def test_a_strength_moves_what_the_model_brings_and_keeps_the_rest_of_it() -> None:
    boosted = ModelRef.model_validate({**MODEL, "steering": {"boost": {"strength": 1.0, "fraction": 0.2}}})
    steering = steering_of(steered(agent(llm()), {"strength": 0}, {"m": boosted}), {"m": boosted})
    assert steering is not None
    assert steering.boost is not None
    assert (steering.boost.strength, steering.boost.fraction) == (0.0, 0.2)
    scaled = ModelRef.model_validate({**MODEL, "steering": {"residual_scale": {"betas": 0.5}}})
    steering = steering_of(steered(agent(llm()), {"strength": 0.5}, {"m": scaled}), {"m": scaled})
    assert steering is not None
    assert steering.boost is None
    assert steering.residual_scale is not None
    assert steering.residual_scale.strength == 0.5


@pytest.mark.parametrize(
    ("brain", "payload", "what"),
    [
        (scripted("conditional"), {"strength": 1.0}, "asks no model"),
        (llm(), {"strength": -1.0}, "no steering: boost.strength"),
        (llm(), {"strength": "much"}, "no steering: boost.strength"),
        (llm(), {"steering": {"magic": 1}}, "no steering: magic"),
    ],
)
def test_what_is_no_steering_is_refused(brain: dict[str, object], payload: dict[str, object], what: str) -> None:
    with pytest.raises(SimulationError, match=what):
        steered(agent(brain), payload, MODELS)


def test_a_posted_strength_counts_from_the_next_tick_and_replays() -> None:
    one, server, store = spec(llm(), llm()), Server(), MemoryStore()
    run(one, store=store, sim="s", backends={"m": server}, ticks=2)
    controls = Controls(store, "s")
    controls.steer("a", 0.5)
    controls.steer("eve", 0.5)
    controls.set_steering("b", SteeringSpec.model_validate({"boost": {"strength": 2.0}}))
    result = run(one, store=store, sim="s", backends={"m": server})
    strengths = {
        (r.agent, int(r.call.split("/")[0])): r.steering and r.steering.boost and r.steering.boost.strength
        for r in server.asked
    }
    assert [strengths["a", tick] for tick in range(4)] == [None, None, 0.5, 0.5]
    assert [strengths["b", tick] for tick in range(4)] == [None, None, 2.0, 2.0]
    assert [event.payload["why"] for event in result.of_kind("control.refused")] == ["there is no agent eve"]
    again = asyncio.run(replay_strictly(one, result.events, tuple(store.calls("s"))))
    assert again.hash == result.hash
