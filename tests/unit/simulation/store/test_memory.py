"""The store in memory does what a store must."""

from __future__ import annotations

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
