"""What a simulation's spec accepts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from steerline.config.render import identity_hash
from steerline.config.simulation import SimulationSpec

AGENTS = [{"id": name, "brain": {"kind": "scripted", "policy": "conditional"}} for name in "ab"]
GOOD: dict[str, Any] = {"scenario": "public_goods", "max_ticks": 3, "agents": AGENTS}

MODELS = {"m": {"backend": {"kind": "openai", "url": "http://127.0.0.1:9/v1", "model": "m"}}}
MODELLED = {"id": "a", "brain": {"kind": "llm", "model": "m", "sampling": {"max_tokens": 64}}}


def refusal(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        SimulationSpec.model_validate({**GOOD, **changes})
    return str(caught.value)


def test_limits_and_replay_are_no_part_of_the_fingerprint() -> None:
    spec = SimulationSpec.model_validate(GOOD)
    other = SimulationSpec.model_validate(
        {**GOOD, "name": "other", "budgets": {"max_calls": 3}, "replay": {"kind": "strict"}}
    )
    assert identity_hash(spec) == identity_hash(other)
    assert identity_hash(spec) != identity_hash(SimulationSpec.model_validate({**GOOD, "seed": 1}))


def test_two_agents_of_one_name_are_refused() -> None:
    assert "two agents are named a" in refusal(agents=[AGENTS[0], AGENTS[0]])


def test_a_brain_that_names_no_model_is_refused() -> None:
    agent = {"id": "a", "brain": {"kind": "llm", "model": "big"}}
    assert "no model is called big" in refusal(agents=[agent])


def test_a_topology_that_names_a_stranger_is_refused() -> None:
    assert "eve is no agent" in refusal(topology={"kind": "star", "hub": "eve"})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"interceptors": [{"kind": "drop", "match": {"senders": ["eve"]}}]}, "eve is no agent"),
        ({"topology": {"kind": "pool", "subscriptions": {"eve": ["news"]}}}, "eve is neither an agent nor the role"),
        ({"workflow": [{"kind": "inject", "at": 1, "message": "hi", "recipients": ["eve"]}]}, "eve is no agent"),
        ({"workflow": [{"kind": "interview", "at": 1, "question": "?", "agents": ["eve"]}]}, "eve is no agent"),
        ({"interceptors": [{"kind": "edit", "pattern": "(", "replacement": ""}]}, "no regular expression"),
        ({"budgets": {"max_calls": 3, "max_calls_per_tick": 4}}, "more calls than the whole run"),
        ({"interceptors": [{"kind": "edit", "pattern": "(a)", "replacement": r"\2"}]}, "no such group"),
        ({"workflow": [{"kind": "inject", "at": 1}]}, "nothing is injected"),
        ({"models": MODELS, "agents": [MODELLED], "budgets": {"max_tokens": 64}}, "no call fits into the budget"),
        ({"models": MODELS, "agents": [MODELLED], "budgets": {"max_cost": 1.0}}, "nothing costs anything"),
        ({"straggler": {"policy": "late"}}, "nothing is late without a time"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], what: str) -> None:
    assert what in refusal(**changes)


def test_masks_need_turns() -> None:
    zeros = [[0, 0], [0, 0]]
    masks = {"kind": "masks", "nodes": ["a", "b"], "spatial": [zeros], "temporal": [zeros], "active": [[1, 1]]}
    assert "inside a round" in refusal(topology=masks)
    SimulationSpec.model_validate({**GOOD, "topology": masks, "engine": "sequential"})


def test_masks_name_each_agent_once() -> None:
    zeros = [[0] * 3] * 3
    masks = {"kind": "masks", "nodes": ["a", "b", "a"], "spatial": [zeros], "temporal": [zeros], "active": [[1] * 3]}
    assert "a is named twice" in refusal(topology=masks, engine="sequential")


@pytest.mark.parametrize("changes", [{"params_": {}}, {"engine": "chaos"}, {"max_ticks": 0}, {"seed": -1}])
def test_unknown_keys_and_values_are_refused(changes: dict[str, Any]) -> None:
    refusal(**changes)
