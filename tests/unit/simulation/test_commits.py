"""Ticks that nobody outside has seen may be committed together, and nothing of that shows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from steerline.config.simulation import SimulationSpec
from steerline.simulation.commits import is_closed
from steerline.simulation.engine import Engine, Surroundings
from steerline.simulation.event import Event
from steerline.simulation.game import Game
from steerline.simulation.runner import run
from steerline.simulation.store.base import Control, Lease
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.world import World
from tests.unit.simulation.worlds import Server, llm, spec

FOR_EVER = 1e9
BOTH = pytest.mark.parametrize("together_ms", [0.0, FOR_EVER])


def game(together_ms: float, **changes: Any) -> SimulationSpec:
    durability = {"together_ms": together_ms, "snapshot_every": 2}
    return spec("conditional", "free_rider", max_ticks=7, durability=durability, **changes)


class Counting(MemoryStore):
    """Counts the transactions of ticks."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[int] = []

    def append(self, lease: Lease, events: Sequence[Event], **more: Any) -> None:
        super().append(lease, events, **more)
        self.appended.append(len({event.tick for event in events if event.kind == "tick.committed"}))


def test_ticks_of_scripts_share_a_transaction_and_have_the_same_history() -> None:
    apart, together = Counting(), Counting()
    one, other = (run(game(ms), store=store, sim="s") for ms, store in ((0.0, apart), (FOR_EVER, together)))
    assert one.hash == other.hash
    assert apart.appended == [0] + [1] * 7
    assert together.appended == [7]
    snapshots = [store.snapshot("s") for store in (apart, together)]
    assert snapshots[0] == snapshots[1]
    assert snapshots[0] is not None
    assert snapshots[0].tick == 6


def test_a_tick_is_followed_once_it_is_committed_and_never_before() -> None:
    store, seen = Counting(), []

    def follow(world: World, events: Sequence[Event]) -> None:
        seen.append(world.tick)
        assert list(store.events("s"))[-1].seq >= events[-1].seq

    run(game(FOR_EVER), store=store, sim="s", around=Surroundings(on_commit=follow))
    assert seen == list(range(8))


def test_a_control_is_written_with_the_tick_that_it_acted_in() -> None:
    store = Counting()
    run(game(FOR_EVER), store=store, sim="s", ticks=2)
    store.post("s", Control("i1", "message", {"text": "be generous"}))
    run(game(FOR_EVER), store=store, sim="s")
    assert store.appended == [2, 1, 4]
    assert not store.controls("s")


@BOTH
def test_whatever_ends_an_attempt_what_was_played_is_kept(together_ms: float) -> None:
    one, whole = game(together_ms), run(game(together_ms)).hash
    store = Counting()
    assert run(one, store=store, sim="s", ticks=3).tick == 3
    assert sum(event.kind == "tick.committed" for event in store.events("s")) == 3
    store.post("s", Control("p1", "pause", {}))
    assert run(one, store=store, sim="s").status == "paused"

    async def cancelled() -> None:
        player = asyncio.create_task(Engine(one, store, "s").run())
        for _ in range(3):
            await asyncio.sleep(0)
        player.cancel()
        await asyncio.gather(player, return_exceptions=True)

    asyncio.run(cancelled())
    assert run(one, store=store, sim="s").hash == whole


def test_only_scripts_in_a_world_of_their_own_are_closed() -> None:
    assert is_closed(Game.of(spec("conditional", {"kind": "stub", "policy": "free_rider", "wrong": 0.5})))
    for brain in (llm(), {"kind": "human"}, {"kind": "custom", "name": "a:B"}):
        assert not is_closed(Game.of(spec("conditional", brain)))
    population = {"kind": "mix", "count": 2, "groups": [{"brain": llm()}]}
    whole = spec("conditional").model_dump() | {"population": population, "models": spec(llm()).model_dump()["models"]}
    assert not is_closed(Game.of(SimulationSpec.model_validate(whole)))
    tidying = {
        "scenario": "tidying",
        "max_ticks": 3,
        "agents": [{"id": "a", "brain": {"kind": "scripted", "policy": "x"}}],
    }
    assert not is_closed(Game.of(SimulationSpec.model_validate(tidying)))


def test_a_model_is_asked_between_commits_of_single_ticks() -> None:
    store = Counting()
    one = spec(llm(), "conditional", durability={"together_ms": FOR_EVER})
    run(one, store=store, sim="s", backends={"m": Server()})
    assert store.appended == [0, 1, 1, 1, 1]
