"""Hosts of simulations in tests, and how to wait for what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from steerline.config.simulation import SimulationSpec
from steerline.serving.simulations import HostLimits, SimulationHost
from steerline.simulation.game import Game
from steerline.simulation.store.base import Store
from tests.unit.simulation.worlds import Server

QUICK = HostLimits(lease_s=0.6, look_every_s=0.02, record_again_s=0.02)


def host(store: Store, **more: Any) -> SimulationHost:
    """A host whose models are one scripted server, called `m`."""
    return SimulationHost(store, more.pop("backends", {"m": Server()}), **{"limits": QUICK, **more})


def posted(store: Store, sim: str, spec: SimulationSpec, *, until: int | None = None) -> str:
    """A simulation that somebody wants played."""
    store.create(sim, spec.model_dump(mode="json"), Game.of(spec).fingerprint)
    store.want(sim, until)
    return sim


def status(store: Store, sim: str) -> str:
    """How a simulation stands."""
    record = store.find(sim)
    assert record is not None
    return record.status


def is_idle(store: Store, sim: str) -> bool:
    """Whether nobody wants a simulation played now, or nobody can."""
    hosted = store.hosted(sim)
    return hosted is not None and hosted.due is None


async def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)
