"""What the engine says to whoever runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from steerline.errors import SimulationError
from steerline.simulation.engine import Engine, Surroundings
from steerline.simulation.event import Event
from steerline.simulation.interruption import Interruption
from steerline.simulation.runner import run
from steerline.simulation.store.base import Control
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.turn import Decider, Decision, Turn
from steerline.simulation.world import World
from tests.unit.simulation.chat import Chat, chat
from tests.unit.simulation.worlds import Server, llm, spec

INVENTED = spec(
    population={"kind": "generated", "count": 3, "model": "m", "brain": llm()},
    models={"m": {"backend": {"kind": "served", "name": "m"}}},
)


def test_a_run_can_be_followed_tick_by_tick() -> None:
    seen: list[tuple[int, str, str]] = []

    def follow(world: World, events: Sequence[Event]) -> None:
        seen.append((world.tick, events[0].kind, events[-1].kind))

    run(chat("greet"), around=Surroundings(on_commit=follow))
    assert seen == [
        (0, "sim.created", "sim.created"),
        (1, "tick.started", "tick.committed"),
        (2, "tick.started", "sim.ended"),
    ]


def test_a_model_without_a_backend_is_refused_before_anything_starts() -> None:
    store = MemoryStore()
    engine = Engine(spec(llm(), llm()), store, "s")
    with pytest.raises(SimulationError, match="no backend answers for the model m"):
        asyncio.run(engine.run())
    assert list(store.events("s")) == []


def test_a_state_that_is_no_plain_data_is_refused_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Chat.resolve

    def resolve(self: Chat, *arguments: object) -> object:
        resolution = whole(self, *arguments)  # type: ignore[arg-type]
        resolution.state["said"] = {"a": {1, 2}}
        return resolution

    monkeypatch.setattr(Chat, "resolve", resolve)
    with pytest.raises(SimulationError, match="not plain data") as caught:
        run(chat("greet"))
    assert ".said.a" in str(caught.value)


def test_sub_rounds_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from steerline.simulation import tick

    monkeypatch.setattr(tick, "MAX_ROUNDS", 5)
    with pytest.raises(SimulationError, match="sub-rounds without end"):
        run(chat("greet", params={"rounds": 99}))


def test_what_happens_around_a_run_is_in_the_log_of_operations_alone() -> None:
    store = MemoryStore()
    run(chat("greet"), store=store, sim="s", ticks=1)
    result = run(chat("greet"), store=store, sim="s")
    assert [operation.kind for operation in store.operations("s")] == ["paused", "ended"]
    assert all("seconds" not in event.payload for event in result.events)


def test_a_run_that_is_stopped_before_it_begins_invents_nobody() -> None:
    server, store = Server(), MemoryStore()
    Engine(INVENTED, store, "s")
    store.post("s", Control("stop", "stop", {}))
    for _ in range(2):
        result = run(INVENTED, store=store, sim="s", backends={"m": server})
        assert (result.status, result.tick, result.events) == ("stopped", 0, ())
    assert not server.asked
    assert not store.controls("s")


def test_a_run_whose_agents_cannot_be_invented_now_stands_still_and_begins_later() -> None:
    store, alone = MemoryStore(), run(INVENTED, backends={"m": Server()})

    class Poor:
        def __init__(self, brains: Decider) -> None:
            self.brains = brains

        async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
            await self.brains.decide(turns)
            raise Interruption("paused", "nobody pays", 5.0)

    server = Server()
    first = run(INVENTED, store=store, sim="s", backends={"m": server}, around=Surroundings(decider=Poor))
    assert (first.status, first.reason, first.tick) == ("paused", "nobody pays", 0)
    asked = len(server.asked)
    again = run(INVENTED, store=store, sim="s", backends={"m": server})
    assert again.hash == alone.hash
    assert len(server.places) == len(set(server.places)) > asked  # what was answered is asked no more


def test_a_run_without_models_counts_as_nobody_who_might_ask() -> None:
    class Nobody:
        models = ()

        def caller(self, names: object = None) -> None:
            raise AssertionError("it has nothing to ask")

    assert run(spec("conditional", "punisher"), around=Surroundings(client=Nobody())).status == "ended"  # type: ignore[arg-type]
