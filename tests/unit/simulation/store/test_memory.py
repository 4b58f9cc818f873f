"""The store in memory does what a store must."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from steerline.simulation.store.base import Store
from steerline.simulation.store.memory import MemoryStore
from tests.unit.simulation.store.conformance import *  # noqa: F403
from tests.unit.simulation.store.conformance import Clock, OpenStore


@pytest.fixture
def open_store() -> OpenStore:
    stores: list[MemoryStore] = []

    def opened(clock: Clock) -> Store:
        if not stores:
            stores.append(MemoryStore(clock))
        return stores[0]

    return opened


def test_simulations_that_threads_enlist_at_once_have_places_of_their_own() -> None:
    both = threading.Barrier(2, timeout=0.1)

    def clock() -> float:
        # Two threads meet here if the store lets them.
        with suppress(threading.BrokenBarrierError):
            both.wait()
        return 1000.0

    store = MemoryStore(clock)
    threads = [threading.Thread(target=store.enlist, args=(sim,)) for sim in "ab"]
    for sim in "ab":
        store.create(sim, {}, "f" * 64)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(one.place for one in store.hosted_page(2)) == [1, 2]
