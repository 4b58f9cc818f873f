"""What a part of a run was worth, by playing it again without."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.inference.client import InferenceClient
from steerline.inference.request import Failure, GenRequest, GenResult
from steerline.simulation.efficiency import efficiency
from steerline.simulation.efficiency.measures import tokens
from steerline.simulation.efficiency.paths import Paths, Step
from steerline.simulation.efficiency.without import less_the_last, played_without
from steerline.simulation.engine import Surroundings
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenarios.debate import game
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.worlds import MODEL, Server, llm

FIXED = {"good": 14, "bad": 9}


def judged(*names: str) -> SimulationSpec:
    """2 + 3 * 4 = ? between one who is right and one who is wrong; the judge takes the largest number that is heard."""
    agents = [{"id": name, "brain": llm(), "profile": {"role": "judge" if name == "judge" else ""}} for name in names]
    params = {"operands": (2, 3, 4), "options": 0, "rounds": 0}
    whole = {"scenario": "debate", "params": params, "agents": agents, "max_ticks": 2, "models": {"m": MODEL}}
    return SimulationSpec.model_validate(whole)


def said(request: GenRequest) -> str:
    heard = re.findall(r"> ANSWER: (\d+)", request.messages[-1].content)
    return f"ANSWER: {FIXED.get(request.agent, max(map(int, heard), default=1))}"


def less(part: Any, spec: SimulationSpec, server: Server, **more: Any) -> tuple[Result | None, dict[str, float]]:
    store = MemoryStore()
    result = run(spec, store=store, sim="s", backends={"m": Server(said)})

    async def play() -> tuple[Result | None, dict[str, float]]:
        async with InferenceClient({"m": server}) as client:
            return await played_without(part, result, store, Surroundings(client=client), **more)

    return asyncio.run(play())


def test_a_path_whose_removal_leaves_the_answer_is_unnecessary() -> None:
    server = Server(said)
    assert less("paths", judged("bad", "good", "judge"), server) == (
        None,
        {"paths": 2.0, "unnecessary_path_ratio": 0.5},
    )
    # What the two debaters said alone is in the journal; only the judge hears something else.
    assert [request.agent for request in server.asked] == ["judge", "judge"]


def test_the_last_agent_is_worth_what_is_lost_without_it() -> None:
    server = Server(said)
    store, spec = MemoryStore(), judged("judge", "bad", "good")
    run(spec, store=store, sim="s", backends={"m": Server(said)})
    spent = tokens([call for call in store.calls("s") if call.agent == "good"])
    _, found = less("last_agent", spec, server)
    assert found == {"without_last_correct": 0.0, "last_agent_gain": 1.0, "last_agent_value": 1000 / spent}
    assert [request.agent for request in server.asked] == ["judge"]
    _, found = less("last_agent", judged("judge", "good", "bad"), Server(said))
    assert found["last_agent_gain"] == found["last_agent_value"] == 0.0


def test_a_run_beside_it_that_pauses_says_so() -> None:
    down = Server(lambda _: GenResult.failed(Failure("refused", "down")))
    for part in ("last_agent", "paths"):
        other, found = less(part, judged("judge", "bad", "good"), down)
        assert other is not None
        assert (other.status, found) == ("paused", {})


def test_paths_are_chains_of_what_was_read_and_none_is_counted_twice() -> None:
    result = run(game(["independent"] * 3, rounds=2))
    paths = Paths(result.events)
    # Two messages: a first speaker, one who heard it, and one who heard that.
    assert len(paths) == 3 * 2 * 2
    every = paths.some(100, CounterRng(0))
    assert len({*every}) == 12
    for first, second in every:
        assert (first.tick, second.tick) == (0, 1)
        assert first.recipient == second.sender != second.recipient
        assert first.sender != first.recipient
    with pytest.raises(IndexError):
        paths[12]


def test_of_more_paths_than_can_be_tried_some_are_drawn() -> None:
    paths = Paths(run(game(["independent"] * 6, rounds=5)).events)
    assert len(paths) == 6 * 5**5
    some = paths.some(10, CounterRng(1))
    assert len({*some}) == 10
    assert some == paths.some(10, CounterRng(1)) != paths.some(10, CounterRng(2))


def test_a_chain_has_one_path() -> None:
    spec = game(["independent"] * 3, rounds=2).model_dump() | {"topology": {"kind": "chain"}}
    result = run(SimulationSpec.model_validate(spec))
    whole = (Step(0, "agent-1", "agent-2"), Step(1, "agent-2", "agent-3"))
    assert whole in Paths(result.events).some(100, CounterRng(0))


def test_the_stubborn_need_no_talk_and_those_who_are_silent_have_no_paths() -> None:
    store = MemoryStore()
    result = run(game(["stubborn"] * 3, rounds=1), store=store, sim="s")
    _, found = asyncio.run(played_without("paths", result, store, Surroundings()))
    assert found == {"paths": 6.0, "unnecessary_path_ratio": 1.0}
    silent = run(game(["stubborn"] * 3, rounds=0), store=store, sim="silent")
    assert asyncio.run(played_without("paths", silent, store, Surroundings())) == (None, {})


def test_a_simulation_that_cannot_do_without_its_last_agent_says_so() -> None:
    with pytest.raises(SimulationError, match="no last agent"):
        less_the_last(game(["independent"]))
    star = game(["independent"] * 3).model_dump() | {"topology": {"kind": "star", "hub": "agent-3"}}
    with pytest.raises(SimulationError, match="cannot do without its last agent, agent-3"):
        less_the_last(SimulationSpec.model_validate(star))


def test_the_work_is_two_operations_for_each_weight_and_computed_token() -> None:
    weighed = {"m": {**MODEL, "parameters": 1e6}}
    store, spec = MemoryStore(), judged("bad", "good", "judge")
    result = run(spec, store=store, sim="s", backends={"m": Server(said)})
    calls = list(store.calls("s"))
    assert "flops" not in efficiency(result, calls)
    known = SimulationSpec.model_validate(spec.model_dump() | {"models": weighed})
    store = MemoryStore()
    result = run(known, store=store, sim="s", backends={"m": Server(said)})
    assert efficiency(result, calls)["flops"] == 2e6 * tokens(calls)
