"""The check of a scenario finds what it is for, and the reference scenario passes it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from steerline.errors import SimulationError
from steerline.simulation.action import ActionSpec, Parsed
from steerline.simulation.conformance import check_scenario
from steerline.simulation.names import SCENARIOS, scenario_class
from steerline.simulation.scenarios.public_goods import PublicGoods, game

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
