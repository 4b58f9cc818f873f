"""Worlds of simulations that may be playing elsewhere, rebuilt from their logs to be looked at."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.simulation.engine import result_of
from steerline.simulation.game import Game
from steerline.simulation.genesis import world_of
from steerline.simulation.restoring import restore
from steerline.simulation.result import Result, Status
from steerline.simulation.store.base import SimulationRecord, Store
from steerline.simulation.world import World

_MOST_NUMBERS = 10_000
_MOST_WORLDS = 8
# A person who looks at a simulation asks for the same world several times.
_seen: OrderedDict[tuple[str, str, int | None], World | None] = OrderedDict()
_lock = threading.Lock()


def world_at(store: Store, record: SimulationRecord, tick: int | None = None) -> World | None:
    """The world of a simulation after a tick.

    Call it where an event loop is not kept waiting by it.

    Args:
        store: holds the simulation.
        record: the simulation, as it was when it was looked up.
        tick: ticks committed; none takes all.

    Returns:
        the world; before the first event as it will be at tick 0, or none where it takes a model or draws to say that.

    Raises:
        CorruptLogError: the log is not whole.
    """
    place = (record.fingerprint, record.hash, tick)
    with _lock:
        if place in _seen:
            _seen.move_to_end(place)
            return _seen[place]
    world = _rebuilt(store, record, tick)
    with _lock:
        _seen[place] = world
        if len(_seen) > _MOST_WORLDS:
            _seen.popitem(last=False)
    return world


def _rebuilt(store: Store, record: SimulationRecord, tick: int | None) -> World | None:
    game = Game.of(SimulationSpec.model_validate(record.spec))
    if record.seq == 0:
        return None if game.spec.population is not None else world_of(game, game.spec.agents, 0)
    return asyncio.run(restore(game, store, record.sim, until=tick))


def replayed(store: Store, sim: str, until: int | None = None) -> Result:
    """A simulation as it stands in its store, rebuilt without asking anybody.

    Args:
        store: holds it.
        sim: its name.
        until: ticks to rebuild; none takes all.

    Raises:
        SimulationError: there is none of that name, or nothing has happened in it yet.
        CorruptLogError: its log is not whole.
    """
    found = store.find(sim)
    if found is None:
        raise SimulationError(f"the store holds no simulation called {sim}")
    game = Game.of(SimulationSpec.model_validate(found.spec))
    world = asyncio.run(restore(game, store, sim, until=until))
    if world is None:
        raise SimulationError(f"nothing has happened in {sim} yet")
    return result_of(game, store, sim, world, cast(Status, found.status), found.reason)


def readable(value: Any) -> Any:
    """Plain data as JSON for people: short arrays as lists, long ones by kind and shape, no number that is not one."""
    match value:
        case np.ndarray() if value.size > _MOST_NUMBERS:
            value = {"array": str(value.dtype), "shape": list(value.shape)}
        case np.ndarray() | np.generic():
            value = readable(value.tolist())
        case Mapping():
            value = {str(key): readable(item) for key, item in value.items()}
        case list() | tuple():
            value = [readable(item) for item in value]
        case float() if not math.isfinite(value):
            value = None
    return value
