"""Plays many simulations in one process: they share its models, and their turns share batches."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from steerline.errors import SteerlineError
from steerline.experiments.played import Played, keep
from steerline.inference.backends.open import open_backend
from steerline.inference.client import InferenceClient
from steerline.inference.request import Backend
from steerline.simulation.cells import Cell
from steerline.simulation.efficiency.vote import against_vote
from steerline.simulation.efficiency.without import played_without
from steerline.simulation.engine import Engine, Surroundings
from steerline.simulation.result import Result
from steerline.simulation.store.base import Store
from steerline.simulation.store.sqlite import SqliteStore

Say = Callable[[str], None]
Open = Callable[[Cell], Mapping[str, Backend]]


def open_models(cell: Cell) -> Mapping[str, Backend]:
    """The backends of a simulation's models, by alias."""
    return {alias: open_backend(model.backend) for alias, model in cell.spec.models.items()}


def play_all(cells: Sequence[Cell], folder: Path, together: int, say: Say, opened: Open = open_models) -> list[Played]:
    """Play simulations to their ends, or on from where their stores have them. What has ended is left alone.

    A simulation that fails says why and does not disturb the others.

    Args:
        cells: the simulations.
        folder: gets a folder for each. Nobody else plays in it: a lease that a killed process left is taken over.
        together: how many are played at once.
        say: told of each that ends.
        opened: opens the models of a simulation; those with equal models share them.

    Raises:
        ModelError, InferenceError: a model cannot be opened.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        models = {alias: model.backend.model_dump(mode="json") for alias, model in cell.spec.models.items()}
        groups.setdefault(json.dumps(models, sort_keys=True), []).append(cell)
    done = {
        played.name: played
        for members in groups.values()
        for played in asyncio.run(_play_group(members, folder, together, say, opened))
    }
    return [done[cell.name] for cell in cells]


async def _play_group(cells: Sequence[Cell], folder: Path, together: int, say: Say, opened: Open) -> list[Played]:
    earlier = {cell.name: Played.load(folder / cell.name) for cell in cells}
    open_ones = [cell for cell in cells if (found := earlier[cell.name]) is None or not found.is_final]
    if not open_ones:
        return [played for played in earlier.values() if played is not None]
    places = asyncio.Semaphore(together)
    ended = 0

    async def play(cell: Cell) -> None:
        nonlocal ended
        async with places:
            earlier[cell.name] = played = await _play(cell, folder / cell.name, client)
        ended += 1
        state = f"{played.state} after {played.ticks} ticks{_why(played)}"
        say(f"steerline: {ended}/{len(open_ones)} {cell.label}: {state}")

    async with InferenceClient(opened(open_ones[0])) as client, asyncio.TaskGroup() as group:
        for cell in open_ones:
            group.create_task(play(cell))
    return [played for played in earlier.values() if played is not None]


async def _play(cell: Cell, folder: Path, client: InferenceClient) -> Played:
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with closing(SqliteStore(folder / "simulation.sqlite", sync=cell.spec.durability.sync)) as store:
        try:
            around = Surroundings(client=client)
            result = await Engine(cell.spec, store, cell.name, around=around, steal=True).run()
            result, worth = await _judged(cell, result, store, around)
            return keep(cell, result, store, folder, time.monotonic() - began, worth)
        except Exception as error:  # noqa: BLE001  a scenario or brain of somebody's own may raise anything
            failed = Played(cell.name, "failed", _told(error), seconds=time.monotonic() - began)
            failed.save(folder)
            return failed


async def _judged(cell: Cell, result: Result, store: Store, around: Surroundings) -> tuple[Result, dict[str, float]]:
    """What simulations beside an ended one say of it. It stands as they stand, while one of them has not ended."""
    worth: dict[str, float] = {}
    if cell.against_vote and result.status == "ended":
        vote, worth = await against_vote(result, store, around)
        if vote.status != "ended":
            result = replace(result, status=vote.status, reason=f"the vote beside it: {vote.reason}")
    for part in cell.without if result.status == "ended" else ():
        other, found = await played_without(part, result, store, around, cell.most_paths)
        worth |= found
        if other is not None:
            return replace(result, status=other.status, reason=f"beside it, without a part: {other.reason}"), worth
    return result, worth


def _told(error: Exception) -> str:
    """An error in words: ours as it stands; anything else with its kind and the line that raised it."""
    if isinstance(error, SteerlineError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error}\n  where:    {place.filename}:{place.lineno}, in {place.name}"


def _why(played: Played) -> str:
    return "" if played.is_final else f" ({played.reason})"
