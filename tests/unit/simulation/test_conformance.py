"""The check of a scenario finds what it is for, and the reference scenario passes it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from steerline.config.load import changed
from steerline.errors import SimulationError
from steerline.simulation.action import ActionSpec, Parsed
from steerline.simulation.conformance import check_brain, check_scenario, check_topology
from steerline.simulation.names import SCENARIOS, scenario_class
from steerline.simulation.scenarios.public_goods import PublicGoods, game
from steerline.simulation.topology import Full
from steerline.simulation.turn import Turn
from tests.unit.simulation.chat import chat

SPEC = game([("a", "random"), ("b", "conditional"), ("c", "punisher")], rounds=3, punishment=True)


def test_the_reference_scenario_keeps_the_contract() -> None:
    check_scenario(SPEC)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_built_in_scenario_keeps_the_contract(name: str) -> None:
    spec = scenario_class(name).oracles()[0].spec
    check_scenario(spec.model_copy(update={"max_ticks": min(spec.max_ticks, 5)}))


def changes_the_state(result: Any, state: Any, *rest: Any) -> Any:
    state["spent"] += 1
    return result


def is_random(result: Any, *rest: Any) -> Any:
    return {**result, "luck": random.random()}


def is_no_plain_data(result: Any, *rest: Any) -> Any:
    return {**result, "pair": (1, 2)}


def is_a_silent_zero(result: Parsed, text: str, spec: ActionSpec) -> Parsed:
    return Parsed(0, "defaulted", "") if result.status == "defaulted" else result


@pytest.mark.parametrize(
    ("name", "spoil", "what"),
    [
        ("metrics", changes_the_state, "metrics changes what it was given"),
        ("metrics", is_random, "metrics gives another result for the same arguments"),
        ("reset", is_no_plain_data, "not plain data"),
        ("parse", is_a_silent_zero, "has no reason"),
        ("who_acts", lambda result, state: [*result, "a"], "names an agent twice"),
        ("rules", lambda result: " ", "there are no rules"),
    ],
)
def test_a_broken_contract_is_found(name: str, spoil: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = getattr(PublicGoods, name)
    monkeypatch.setattr(PublicGoods, name, lambda self, *args: spoil(whole(self, *args), *args))
    with pytest.raises(SimulationError, match=what):
        check_scenario(SPEC)


def test_too_few_brains_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: PublicGoods.scripted[name] for name in ("random", "conditional")}
    monkeypatch.setattr(PublicGoods, "scripted", few)
    with pytest.raises(SimulationError, match="too few scripted brains"):
        check_scenario(SPEC)


HERE = "tests.unit.simulation.test_conformance"
KINDS = [
    {"kind": "full"},
    {"kind": "ring"},
    {"kind": "small_world", "neighbours": 2},
    {"kind": "rewiring", "degree": 2},
    {"kind": "pruned", "keep": 2},
]


class Party(Full):
    """A topology of one's own."""


@pytest.mark.parametrize("kind", [*KINDS, {"kind": "custom", "name": f"{HERE}:Party"}], ids=lambda kind: kind["kind"])
def test_topologies_keep_the_contract(kind: dict[str, Any]) -> None:
    check_topology(chat("greet", "echo", "greet", "echo", "greet", topology=kind, max_ticks=3))


@pytest.mark.parametrize(
    ("name", "spoil", "what"),
    [
        ("routes", lambda result, state, draft: {**result, "stranger": 0}, "routes lead to nobody"),
        ("routes", lambda result, state, draft: dict.fromkeys(result, -1), "into the past"),
        ("order", lambda result, state, actors: [*actors, actors[0]], "one twice"),
        ("step", lambda result, state, *rest: state.append("ghost") or state, "step changes what it was given"),
        ("step", lambda result, *rest: random.random(), "step gives another result"),
        ("start", lambda result, *rest: {"pair": (1, 2)}, "not plain data"),
    ],
)
def test_a_topology_that_breaks_the_contract_is_found(
    name: str, spoil: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = getattr(Party, name)
    monkeypatch.setattr(Party, name, lambda self, *args: spoil(whole(self, *args), *args))
    with pytest.raises(SimulationError, match=what):
        check_topology(chat("greet", "echo", topology={"kind": "custom", "name": f"{HERE}:Party"}))


class Adviser:
    """A brain of one's own."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    async def decide(self, turn: Turn) -> str:
        return self._text  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "what"), [("ANSWER: 3", None), ("well", "said what cannot be read"), (None, "does not answer")]
)
def test_a_brain_of_ones_own_answers_every_turn_so_that_it_can_be_read(text: str | None, what: str | None) -> None:
    brain = {"kind": "custom", "name": f"{HERE}:Adviser", "params": {"text": text}}
    spec = changed(SPEC, {"agents.0.brain": brain, "params.punishment": False}, "here")
    if what is None:
        check_brain(spec)
        return
    with pytest.raises(SimulationError, match=what):
        check_brain(spec)
