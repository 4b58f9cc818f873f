"""A simulation is paid for by the key under which it was last asked to be played, and pauses when that cannot pay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from steerline.errors import AccessError, SimulationError
from steerline.inference.request import Failure, GenRequest, GenResult, Usage
from steerline.serving.keys import SCOPES, KeyBook
from steerline.serving.paying import Paid, Purses, charge
from steerline.serving.teams import Drawn, ask_agent
from steerline.serving.usage import UsageBook
from steerline.simulation.action import Integer
from steerline.simulation.interruption import Interruption
from steerline.simulation.observation import Observation
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.store.base import Store
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.turn import Decision, Turn
from tests.unit.serving.hosting import host, is_idle, posted, status, until
from tests.unit.simulation.worlds import MODEL, Server, llm, spec

GAME = spec(llm(), llm(), "punisher", punishment=True)
_DAY_S = 86_400


class Bank:
    """Keys and what they used, of a day that can be moved on."""

    def __init__(self, folder: Path) -> None:
        self.now = 100 * _DAY_S + 100.0
        self._folder = folder
        self.keys = KeyBook(folder / "keys.json")
        self.usage = self.book()
        self.purses = Purses(self.keys, self.usage)

    def book(self) -> UsageBook:
        """Used tokens, as another process sees them."""
        return UsageBook(self._folder / "usage.db", clock=lambda: self.now)

    def key(self, name: str, most: int | None = None) -> str:
        return self.keys.create(name, SCOPES, tokens_per_day=most)[1].id


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    opened = Bank(tmp_path)
    yield opened
    opened.usage.close()


def asked(store: Store, sim: str, key: str) -> None:
    charge(store, sim, key)
    store.want(sim)


def stands(store: Store, bank: Bank, *statuses: str) -> str:
    """Have a host play `s` until it stands in one of some ways; why it does."""

    async def play() -> None:
        async with host(store, purses=bank.purses):
            await until(lambda: status(store, "s") in statuses)

    asyncio.run(play())
    record = store.find("s")
    assert record is not None
    return record.reason


def tokens(store: Store) -> int:
    used = [call.result["usage"] for call in store.calls("s")]
    return sum(one["prompt_tokens"] + one["completion_tokens"] for one in used)


def test_what_models_were_asked_counts_for_the_key_that_had_it_played(bank: Bank) -> None:
    store, key = MemoryStore(), bank.key("ann")
    posted(store, "s", GAME)
    asked(store, "s", key)
    stands(store, bank, "ended")
    assert bank.usage.today(key) == tokens(store) > 0


def test_a_simulation_whose_key_has_used_its_day_pauses_and_says_why_until_another_pays_or_the_next_day(
    bank: Bank,
) -> None:
    store, key = MemoryStore(), bank.key("ann", 1)
    posted(store, "s", GAME)
    asked(store, "s", key)
    reason = stands(store, bank, "paused")
    assert "the key that pays for it has used its tokens of today" in reason
    # Everybody with a key reads it.
    assert "ann" not in reason
    assert key not in reason
    assert store.operations("s")[-1].payload["reason"] == reason
    first = tokens(store)
    assert 0 < bank.usage.today(key) == first
    hosted = store.hosted("s")
    assert hosted is not None
    assert hosted.due is not None
    assert hosted.due - time.time() == pytest.approx(_DAY_S - 100, abs=60)
    with pytest.raises(SimulationError, match="while their simulation is played") as refused:
        ask_agent(store, "s", "a", "Why?", Drawn())
    assert "has used" in str(refused.value.got)
    assert not store.controls("s")
    other = bank.key("bob")
    asked(store, "s", other)
    stands(store, bank, "ended")
    assert (bank.usage.today(key), bank.usage.today(other)) == (first, tokens(store) - first)
    assert store.find("s").hash == run(GAME, backends={"m": Server()}).hash  # type: ignore[union-attr]


def test_a_simulation_of_a_revoked_key_pauses_until_another_pays(bank: Bank) -> None:
    store, key = MemoryStore(), bank.key("ann")
    posted(store, "s", GAME)
    asked(store, "s", key)
    bank.keys.revoke("ann")
    reason = stands(store, bank, "paused")
    assert "revoked" in reason
    assert key not in reason
    assert is_idle(store, "s")
    assert not list(store.calls("s"))


@pytest.mark.parametrize("models", [{}, {"m": MODEL}])
def test_what_asks_no_model_costs_nothing_and_needs_no_key(bank: Bank, models: dict[str, Any]) -> None:
    store, key = MemoryStore(), bank.key("ann", 1)
    bank.usage.add(key, 1)
    posted(store, "s", spec("conditional", "punisher", models=models))
    asked(store, "s", key)
    stands(store, bank, "ended", "paused")
    assert status(store, "s") == "ended"


def test_a_key_without_a_quota_pays_while_its_book_is_away(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(book: UsageBook, *_: object) -> int:
        raise AccessError("another process holds it")

    store, key = MemoryStore(), bank.key("ann")
    posted(store, "s", GAME)
    asked(store, "s", key)
    monkeypatch.setattr(UsageBook, "hold", away)
    stands(store, bank, "ended", "paused")
    assert status(store, "s") == "ended"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_simulations_side_by_side_share_what_is_left_of_a_day_and_one_alone_may_go_over_its_end(
    bank: Bank, elsewhere: bool
) -> None:
    store, key = MemoryStore(), bank.key("ann", 100)
    turn = Turn(GAME.agents[0], Observation(Integer(0, 20, 0), "Give.", agent="a"), CounterRng(0))
    asked_now: list[str] = []

    class Beside:
        """Asks for another simulation while it is asked itself."""

        async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
            asked_now.append("first")
            with pytest.raises(Interruption, match="what is being written for others") as caught:
                await Paid(second, Nothing()).decide(turns)
            assert caught.value.again_s is not None
            return []

    class Nothing:
        async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
            asked_now.append("second")
            return []

    for sim in ("s", "t"):
        posted(store, sim, GAME)
        charge(store, sim, key)
    other = bank.book()
    beside = Purses(bank.keys, other) if elsewhere else bank.purses
    first, second = bank.purses.of(store, "s"), beside.of(store, "t")
    assert first is not None
    assert second is not None
    asyncio.run(Paid(first, Beside()).decide([turn]))
    asyncio.run(Paid(second, Nothing()).decide([turn]))
    assert asked_now == ["first", "second"]
    other.close()


def test_an_answer_that_comes_once_nobody_waits_for_it_is_paid_too(bank: Bank) -> None:
    class Slow(Server):
        async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
            await released.wait()
            return await super().generate(requests)

    store, key, released = MemoryStore(), bank.key("ann"), asyncio.Event()
    posted(store, "s", spec(llm(), llm(), max_ticks=1, straggler={"policy": "wait", "timeout_s": 0.01}))
    asked(store, "s", key)

    async def play() -> None:
        async with host(store, backends={"m": Slow()}, purses=bank.purses) as played:
            await until(lambda: status(store, "s") == "paused" and not played.playing)
            assert bank.usage.today(key) == 0
            released.set()
            await until(lambda: bank.usage.today(key))

    asyncio.run(play())


def test_an_answer_that_is_refused_midway_is_paid_for_as_far_as_it_came(bank: Bank) -> None:
    class Refusing(Server):
        async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
            return [GenResult.failed(Failure("refused", "no"), usage=Usage(5, 2)) for _ in requests]

    store, key = MemoryStore(), bank.key("ann")
    posted(store, "s", spec(llm(), llm(), max_ticks=1))
    asked(store, "s", key)

    async def play() -> None:
        async with host(store, backends={"m": Refusing()}, purses=bank.purses):
            await until(lambda: bank.usage.today(key))

    asyncio.run(play())
    bank.purses.settle()
    assert bank.usage.today(key) % 7 == 0


def test_what_was_made_without_keys_is_played_for_nothing(bank: Bank) -> None:
    store = MemoryStore()
    posted(store, "s", GAME)
    stands(store, bank, "ended")
