"""Ticks on their way into the store: each by itself, or several that are over in no time in one transaction.

A tick counts as committed, for the store and for whoever follows the run, once its transaction is written, and never
before. Ticks wait for each other only where nothing outside the process has seen them: those that a killed process
loses are played again, to the same hash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from steerline.config.simulation_agents import ScriptedBrain, StubBrain
from steerline.simulation.canonical import check_plain
from steerline.simulation.event import Event, EventDraft, seal
from steerline.simulation.game import Game
from steerline.simulation.store.base import Lease, Snapshot, Store
from steerline.simulation.world import World

OnCommit = Callable[[World, Sequence[Event]], None]
"""Called after each committed tick, with the world and the tick's events."""


def is_closed(game: Game) -> bool:
    """Whether no tick asks anybody outside the process, nor acts on the world outside."""
    scripted = all(isinstance(brain, ScriptedBrain | StubBrain) for _, brain in game.spec.brains())
    return scripted and not game.spec.models and "physical" not in game.scenario.coverage.interface


class Commits:
    """The commits of one attempt at a run.

    Args:
        game: the rules.
        store: where ticks are kept.
        lease: the run's.
        may_wait: whether ticks may wait for each other, up to `durability.together_ms`.
        clock: seconds since 1970.
        follow: told of each tick once it is committed.
    """

    def __init__(
        self,
        game: Game,
        store: Store,
        lease: Lease,
        *,
        may_wait: bool,
        clock: Callable[[], float],
        follow: OnCommit | None,
    ) -> None:
        self._game, self._store, self._lease = game, store, lease
        self._wait_s = game.spec.durability.together_ms / 1000 if may_wait else 0.0
        self._clock, self._follow = clock, follow
        record = store.find(lease.sim)
        assert record is not None
        self._seq, self._hash = record.seq, record.hash
        self._waiting: list[tuple[World, list[Event]]] = []
        self._snapshot: Snapshot | None = None
        self._written = time.perf_counter()

    def add(self, world: World, drafts: Sequence[EventDraft], tick: int, applied: Sequence[str] = ()) -> None:
        """Commit a tick, or have it wait for the next.

        Args:
            world: the world after it.
            drafts: what happened in it.
            tick: its number.
            applied: controls that took effect in it. Such a tick waits for nothing.

        Raises:
            LeaseError: another owner has taken over.
        """
        events = list(seal(drafts, tick, self._seq, self._hash, self._clock()))
        self._seq, self._hash = events[-1].seq, events[-1].hash
        self._waiting.append((world, events))
        if world.tick == 1 or world.tick % self._game.spec.durability.snapshot_every == 0:
            check_plain(world.state, f"the state of {self._game.spec.scenario}")
            if world.tick > 1:
                self._snapshot = Snapshot(world.tick, world.seq, self._hash, world.pack())
        if applied or time.perf_counter() - self._written >= self._wait_s:
            self.write(applied)

    def write(self, applied: Sequence[str] = ()) -> None:
        """Commit what waits.

        Raises:
            LeaseError: another owner has taken over.
        """
        if not self._waiting:
            return
        ticks, self._waiting = self._waiting, []
        events = [event for _, events in ticks for event in events]
        self._store.append(self._lease, events, snapshot=self._snapshot, applied=applied)
        self._snapshot = None
        self._written = time.perf_counter()
        if self._follow is not None:
            for world, events in ticks:
                self._follow(world, events)
