"""Plays a simulation from its spec, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from steerline.config.simulation import SimulationSpec
from steerline.inference.client import InferenceClient
from steerline.inference.request import Backend
from steerline.simulation.engine import Engine, Surroundings
from steerline.simulation.result import Result
from steerline.simulation.store.base import Store
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.turn import Decider


def run(
    spec: SimulationSpec,
    decider: Decider | None = None,
    *,
    store: Store | None = None,
    sim: str | None = None,
    ticks: int | None = None,
    backends: Mapping[str, Backend] | None = None,
    around: Surroundings | None = None,
) -> Result:
    """Play a simulation until it ends, pauses or waits, from where its store has it.

    Args:
        spec: the simulation.
        decider: who answers the turns; none takes the brains that the spec names.
        store: where it is kept; none keeps it in memory.
        sim: its name in the store; none makes one of the spec's name and fingerprint.
        ticks: stop after so many ticks.
        backends: who answers for the models, by alias; none opens those that the spec describes.
        around: what else the run finds around it.

    Raises:
        SimulationError: the simulation cannot be played.
    """
    return asyncio.run(play(spec, decider, store=store, sim=sim, ticks=ticks, backends=backends, around=around))


async def play(
    spec: SimulationSpec,
    decider: Decider | None = None,
    *,
    store: Store | None = None,
    sim: str | None = None,
    ticks: int | None = None,
    backends: Mapping[str, Backend] | None = None,
    around: Surroundings | None = None,
) -> Result:
    """`run`, for a caller with an event loop."""
    around = around or Surroundings()
    if decider is not None:
        around = replace(around, decider=lambda _: decider)
    store = MemoryStore() if store is None else store
    if around.client is not None or not (backends or _needs_models(spec)):
        return await Engine(spec, store, sim, around=around).run(ticks)
    async with InferenceClient(backends or _opened(spec)) as client:
        return await Engine(spec, store, sim, around=replace(around, client=client)).run(ticks)


def _needs_models(spec: SimulationSpec) -> bool:
    return bool(spec.models) and spec.replay.kind != "strict"


def _opened(spec: SimulationSpec) -> dict[str, Backend]:
    from steerline.inference.backends.open import open_backend

    return {alias: open_backend(ref.backend) for alias, ref in spec.models.items()}
