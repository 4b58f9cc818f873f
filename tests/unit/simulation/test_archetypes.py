"""Agents that cannot be told apart in a prompt are asked once for all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from steerline.config.simulation import SimulationSpec
from steerline.inference.request import GenRequest
from steerline.simulation.efficiency import efficiency
from steerline.simulation.parsing import answer
from steerline.simulation.replay import replay_strictly
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.worlds import MODEL, Server, llm

DAYS = 3


def alike(**more: Any) -> dict[str, Any]:
    return {"kind": "archetype", "llm": llm(), **more}


def town(*groups: dict[str, Any], count: int = 60, **changes: Any) -> SimulationSpec:
    """A town in an epidemic, where a prompt tells the day, the share of the ill and how one feels."""
    whole = {
        "scenario": "epidemic",
        "params": {"inhabitants": 200, "ill_at_start": 20, "days": DAYS},
        "population": {"kind": "mix", "count": count, "groups": list(groups)},
        "topology": {"kind": "none"},
        "max_ticks": DAYS,
        "models": {"m": MODEL},
        **changes,
    }
    return SimulationSpec.model_validate(whole)


def going_out(request: GenRequest) -> str:
    return answer(CounterRng(request.seed).choice(("out", "home"), "day"))


def texts(result: Any, tick: int) -> list[str]:
    return [event.payload["text"] for event in result.of_kind("action.taken") if event.tick == tick]


def test_all_who_feel_alike_on_a_day_are_one_call() -> None:
    server = Server(going_out)
    result = run(town({"brain": alike()}), backends={"m": server})
    prompts = [request.messages for request in server.asked]
    assert len(prompts) == len(set(prompts)) <= 3 * DAYS
    assert len(texts(result, 0)) == 60
    assert all(request.agent.startswith("archetype/") for request in server.asked)


def test_every_member_draws_one_of_several_answers() -> None:
    server = Server(lambda request: answer("out" if request.call.endswith(("/0", "/1", "/2")) else "home"))
    result = run(town({"brain": alike(answers=4)}, count=200), backends={"m": server})
    assert len(server.asked) == 4 * len({request.messages for request in server.asked})
    out = sum("out" in text for text in texts(result, 0))
    # 150 are expected, with a standard deviation of 6.1.
    assert 125 < out < 175


def test_only_what_tells_archetypes_apart_is_in_the_prompt() -> None:
    groups = [
        {"profile": {"role": role, "traits": [trait]}, "brain": alike(by=["role"])}
        for role, trait in (("nurse", "kind"), ("nurse", "shy"), ("baker", "kind"))
    ]
    server = Server(going_out)
    run(town(*groups, max_ticks=1), backends={"m": server})
    systems = {request.messages[0].content for request in server.asked}
    assert len(systems) == 2
    assert not any("kind" in text or "shy" in text for text in systems)


def test_archetypes_with_another_steering_are_others() -> None:
    groups = [{"brain": alike(llm=llm(steering={"boost": {"strength": strength}}))} for strength in (0.5, 1.0)]
    server = Server(going_out)
    run(town(*groups, max_ticks=1), backends={"m": server})
    felt = {request.messages for request in server.asked}
    assert len(server.asked) == 2 * len(felt)


@pytest.mark.parametrize("shuffle", [1, 2])
def test_neither_batches_nor_the_order_of_answers_change_the_history(shuffle: int) -> None:
    one = town({"brain": alike(answers=3)})
    plain = run(one, backends={"m": Server(going_out)})
    mixed = run(one, backends={"m": Server(going_out, workers=4, max_batch=2, shuffle=shuffle)})
    assert plain.hash == mixed.hash


def test_a_run_in_pieces_asks_nothing_twice_and_its_replay_nothing_at_all() -> None:
    one, store, server = town({"brain": alike(answers=2)}), MemoryStore(), Server(going_out)
    for _ in range(DAYS):
        result = run(one, store=store, sim="s", ticks=1, backends={"m": server})
    whole = Server(going_out)
    assert result.hash == run(one, backends={"m": whole}).hash
    assert sorted(server.places) == sorted(whole.places)
    calls = list(store.calls("s"))
    assert asyncio.run(replay_strictly(one, list(store.events("s")), calls)).hash == result.hash
    measured = efficiency(result, calls)
    assert measured["calls"] == len(server.asked) < measured["turns"]


def test_an_answer_that_cannot_be_read_is_every_members_default() -> None:
    result = run(town({"brain": alike()}, max_ticks=1), backends={"m": Server(lambda _: "hm")})
    assert len(list(result.of_kind("action.invalid"))) == 60


@pytest.mark.parametrize(
    ("brain", "changes", "what"),
    [
        (alike(answers=2, llm={"kind": "llm", "model": "m"}), {}, "all answers at temperature 0 are the same"),
        (alike(), {"straggler": {"policy": "late", "timeout_s": 1.0}}, "a late answer"),
        (alike(llm=llm(model="n")), {}, "no model is called n"),
    ],
)
def test_what_cannot_be_shared_is_refused(brain: dict[str, Any], changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        town({"brain": brain}, **changes)
