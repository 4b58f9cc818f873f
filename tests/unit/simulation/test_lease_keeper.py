"""A lease is kept while its owner computes, and its loss is told."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from steerline.errors import LeaseError
from steerline.inference.client import InferenceClient
from steerline.inference.request import GenRequest
from steerline.simulation.engine import Engine, Surroundings
from steerline.simulation.lease_keeper import LeaseKeeper
from steerline.simulation.result import Result
from steerline.simulation.runner import run
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.store.sqlite import SqliteStore
from tests.unit.simulation.worlds import Server, drawn, llm, spec


def test_a_lease_is_kept_while_the_event_loop_is_busy(tmp_path: Path) -> None:
    """A tick blocks the loop for several times as long as the lease runs; another owner is kept out all the while."""
    now, lease_s = 0.0, 0.03
    store, other = (SqliteStore(tmp_path / "s.db", sync=False, clock=lambda: now) for _ in range(2))
    refused: list[str] = []

    def expires() -> float:
        return float(other._query("SELECT expires FROM simulations WHERE sim = 's'")[0][0])

    def answer(request: GenRequest) -> str:
        nonlocal now
        if request.call == "1/a/0":
            for _ in range(4):
                before = expires()
                # The clock stands still until the lease is renewed, however late the keeper gets its turn.
                now += 0.9 * lease_s
                with pytest.raises(LeaseError) as caught:
                    other.acquire("s", "another", 1.0)
                refused.append(str(caught.value))
                while expires() == before:
                    pass
        return drawn(request)

    one = spec(llm(), "conditional")

    async def play() -> Result:
        async with InferenceClient({"m": Server(answer)}) as client:
            return await Engine(one, store, "s", around=Surroundings(client=client), lease_s=lease_s).run()

    result = asyncio.run(play())
    assert result.hash == run(one, backends={"m": Server()}).hash
    assert len(refused) == 4
    store.close()
    other.close()


def test_the_loss_of_a_lease_is_told_once() -> None:
    store, told, heard = MemoryStore(), threading.Event(), []
    store.create("s", {}, "f" * 64)
    lease = store.acquire("s", "me", 0.03)

    def lost(error: LeaseError) -> None:
        heard.append(error)
        told.set()

    with LeaseKeeper(store, lease, 0.03, lost):
        store.acquire("s", "another", 60.0, steal=True)
        assert told.wait(60.0)
    assert len(heard) == 1
    assert "taken over" in heard[0].what


def test_a_lease_is_not_renewed_once_its_owner_has_left() -> None:
    store = MemoryStore()
    store.create("s", {}, "f" * 64)
    lease = store.acquire("s", "me", 0.03)
    with LeaseKeeper(store, lease, 0.03, lambda error: None):
        pass
    store.release(lease)
    assert store.acquire("s", "another", 60.0).token == lease.token + 1
