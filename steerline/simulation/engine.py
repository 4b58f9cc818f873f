"""Runs a simulation out of a store: takes the lease, restores the world, plays ticks, each one transaction."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_running import HybridReplay, PauseStep
from steerline.errors import LeaseError, SimulationError, StoreAwayError
from steerline.simulation.asking import Asker, Models, served_names
from steerline.simulation.brains import Brains
from steerline.simulation.budgets import Budget
from steerline.simulation.commits import Commits, OnCommit, is_closed
from steerline.simulation.event import EventDraft
from steerline.simulation.game import Game
from steerline.simulation.genesis import begin
from steerline.simulation.humans import AskHuman, Humans, open_questions
from steerline.simulation.interruption import Interruption
from steerline.simulation.interventions import Intervention
from steerline.simulation.journal import Journal
from steerline.simulation.lease_keeper import LeaseKeeper
from steerline.simulation.restoring import restore
from steerline.simulation.result import Result, Status
from steerline.simulation.store.base import Call, Control, Lease, Store
from steerline.simulation.tick import advance
from steerline.simulation.turn import Decider
from steerline.simulation.world import World

LEASE_S = 30.0
"""Seconds that a run may be silent before another one may take over."""


@dataclass(frozen=True)
class Surroundings:
    """What a run finds around it. All of it may be left out."""

    client: Models | None = None
    """Who reaches the models."""
    ask_human: AskHuman | None = None
    """Asks a person who is here."""
    on_commit: OnCommit | None = None
    """Follows the run."""
    decider: Callable[[Decider], Decider] | None = None
    """Wraps the brains, e.g. for a replay."""
    calls: Sequence[Call] | None = None
    """A journal to replay; none takes the simulation's own."""
    clock: Callable[[], float] = time.time
    """Seconds since 1970."""
    leaving: Callable[[], bool] = lambda: False
    """Whether whoever runs this is to hand it over before the next tick."""


class HandedOver(Exception):  # noqa: N818  nothing is wrong
    """A run was broken off between two ticks, as its host asked; whoever runs it next goes on."""


@dataclass(frozen=True)
class _Standstill:
    status: Status | Literal["failed"]
    reason: str
    pause: str | None = None
    """Id of the control that asks for it; a stop before the beginning is one too."""
    again_s: float | None = None
    """Seconds after which a host plays on by itself."""

    @staticmethod
    def of(interruption: Interruption) -> _Standstill:
        """What a broken off tick, or beginning, comes to."""
        return _Standstill(interruption.status, interruption.reason, again_s=interruption.again_s)


class Engine:
    """One simulation in a store. Running it goes on where it stands, whoever ran it before.

    Args:
        spec: the simulation.
        store: where it is kept.
        sim: its name there; none makes one of the spec's name and fingerprint.
        around: what the run finds around it.
        owner: who runs it; none takes host and process.
        steal: take over from an owner whose lease has not run out: for a caller who knows that the process is dead.
        lease_s: seconds that a run may be silent before another one may take over.

    Raises:
        SimulationError: the spec names what does not exist, or the store has another simulation of that name.
    """

    def __init__(
        self,
        spec: SimulationSpec,
        store: Store,
        sim: str | None = None,
        *,
        around: Surroundings | None = None,
        owner: str | None = None,
        steal: bool = False,
        lease_s: float = LEASE_S,
    ) -> None:
        self.game = Game.of(spec)
        self.sim = sim or f"{spec.name}-{self.game.fingerprint[:10]}"
        self._store = store
        self._around = around or Surroundings()
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}:{id(self)}"
        self._steal = steal
        self._lease_s = lease_s
        record = store.create(self.sim, spec.model_dump(mode="json"), self.game.fingerprint)
        # A run that was killed in its first tick after a pause still has that pause behind it.
        self._paused_for = record.reason if record.status in ("paused", "running") else ""

    async def run(self, ticks: int | None = None) -> Result:
        """Play until the simulation ends, pauses, waits for a person, or has played so many ticks.

        Raises:
            LeaseError: another process runs it, or has taken over.
            CorruptLogError: its log is not whole.
            ReplayError: the replay is strict and a call differs.
            HandedOver: it was asked to leave.
            StoreAwayError: the store does not answer; nothing that was committed is lost.
            SimulationError: a model has no backend.
        """
        if self.game.spec.replay.kind != "strict":
            _check_models(self.game.spec, self._around.client)
        lease = self._store.acquire(self.sim, self._owner, self._lease_s, steal=self._steal)
        run = _Run(self.game, self._store, self.sim, lease, self._around)
        player = asyncio.current_task()
        assert player is not None
        loop = asyncio.get_running_loop()

        def lost(error: LeaseError) -> None:
            run.lost = error
            loop.call_soon_threadsafe(player.cancel)

        try:
            with LeaseKeeper(self._store, lease, self._lease_s, lost):
                status, reason = await run.play(ticks, self._paused_for)
            self._store.operate(self.sim, status, {"reason": reason, "ticks": run.ticks, "seconds": run.seconds})
            self._paused_for = reason if status == "paused" else ""
        except asyncio.CancelledError:
            if run.lost is None:
                raise
            player.uncancel()
            raise run.lost from None
        except HandedOver:
            self._store.operate(self.sim, "handed_over", {"ticks": run.ticks, "seconds": run.seconds})
            raise
        except (LeaseError, StoreAwayError):
            # How it stands is the new owner's to say, or whoever's who finds the store again.
            raise
        except Exception as error:
            run.stand_still(_Standstill("failed", str(error) or type(error).__name__))
            raise
        finally:
            await asyncio.gather(run.close(), return_exceptions=True)
            self._store.release(lease)
        return result_of(self.game, self._store, self.sim, run.world, status, reason)


class _Run:
    """One attempt: what lives from taking the lease to giving it back."""

    def __init__(self, game: Game, store: Store, sim: str, lease: Lease, around: Surroundings) -> None:
        spec = game.spec
        self._game = game
        self._store = store
        self._sim = sim
        self._around = around
        self.lease = lease
        self.world: World | None = None
        self.lost: LeaseError | None = None
        """Set once another owner has taken over."""
        hosted = store.hosted(sim)
        self._served = 0 if hosted is None else hosted.number
        self._until = None if hosted is None or hosted.due is None else hosted.until
        self.ticks = 0
        self.seconds = 0.0
        self._spent_s = sum(float(o.payload.get("seconds", 0.0)) for o in store.operations(sim))
        own = list(store.calls(sim))
        known = own if around.calls is None else around.calls
        self._journal = Journal(store, lease, spec.replay, known, spec.durability.call_chunk)
        self._budget = Budget(spec.budgets, spec.models, _paid(spec, own))
        self._asker = Asker(game, sim, self._journal, self._budget, around.client)
        brains: Decider = Brains(game, self._asker, Humans(game, store, sim, around.ask_human, around.clock))
        closed = around.decider is None and is_closed(game)
        self._commits = Commits(game, store, lease, may_wait=closed, clock=around.clock, follow=around.on_commit)
        self._decider = brains if around.decider is None else around.decider(brains)

    async def play(self, ticks: int | None, paused_for: str) -> tuple[Status, str]:
        """Play ticks; how the run stands afterwards, and why."""
        with ExitStack() as stack:
            # One that asks no model must not be waited for by those who do.
            if self._around.client is not None and self._game.spec.models:
                self._asker.caller = stack.enter_context(self._around.client.caller(served_names(self._game.spec)))
            self.world = await restore(self._game, self._store, self._sim)
            if self.world is None:
                standstill = await self._begin_or_standstill()
                if standstill is not None:
                    self.stand_still(standstill)
                    return _outwardly(standstill)
            assert self.world is not None
            self._store.set_status(self.lease, "running", paused_for)
            while self.world.ended is None:
                standstill = self._boundary(self.world, ticks, paused_for)
                if standstill is None:
                    standstill = await self._tick_or_standstill(self.world)
                if standstill is not None and self.stand_still(standstill):
                    return _outwardly(standstill)
            self._commits.write()
            status: Status = "stopped" if self.world.ended == "stopped" else "ended"
            self._store.set_status(self.lease, status, self.world.ended)
            return status, self.world.ended

    def stand_still(self, standstill: _Standstill) -> bool:
        """Say so in the store; not if the pause has been taken back."""
        self._commits.write()
        again_at = None if standstill.again_s is None else self._around.clock() + standstill.again_s
        if standstill.status == "waiting":
            deadlines = [request.deadline for request in open_questions(self._store, self._sim)]
            again_at = min((deadline for deadline in deadlines if deadline is not None), default=None)
        return self._store.stand_still(
            self.lease,
            standstill.status,
            standstill.reason,
            served=self._served,
            pause=standstill.pause,
            again_at=again_at,
        )

    async def close(self) -> None:
        """End what is under way, and keep what was played."""
        await self._asker.close()
        if self.lost is None:
            self._commits.write()

    def _boundary(self, world: World, ticks: int | None, paused_for: str) -> _Standstill | None:
        """Between two ticks: why the run stands still, if it does.

        Raises:
            HandedOver: the host leaves.
        """
        for control in self._store.controls(self._sim):
            if control.kind == "stop":
                self._stop(world, control)
                return None
            if control.kind == "pause":
                return _Standstill("paused", str(control.payload.get("reason", "somebody paused it")), control.id)
        if self._around.leaving():
            self._commits.write()
            raise HandedOver
        if ticks is not None and self.ticks >= ticks:
            return _Standstill("paused", f"{ticks} ticks were asked for")
        if self._until is not None and world.tick >= self._until:
            return _Standstill("paused", f"it was to be played to tick {self._until}")
        limit = self._game.spec.budgets.max_seconds
        if limit is not None and self._spent_s + self.seconds >= limit:
            return _Standstill("paused", f"budgets.max_seconds = {limit:g} is reached")
        planned = f"workflow: pause before tick {world.tick}"
        has_pause = any(isinstance(s, PauseStep) and s.at == world.tick for s in self._game.spec.workflow)
        return _Standstill("paused", planned) if has_pause and not (self.ticks == 0 and paused_for == planned) else None

    async def _begin_or_standstill(self) -> _Standstill | None:
        record = self._store.find(self._sim)
        stop = next((control.id for control in self._store.controls(self._sim) if control.kind == "stop"), None)
        if stop is not None or (record is not None and record.status == "stopped"):
            # Models may be asked for its agents, and nobody would meet them.
            return _Standstill("stopped", "stopped", stop)
        try:
            self.world, drafts = await begin(self._game, self._decider)
        except Interruption as interruption:
            return _Standstill.of(interruption)
        finally:
            self._journal.flush()
        self._commits.add(self.world, drafts, 0)
        return None

    async def _tick_or_standstill(self, world: World) -> _Standstill | None:
        if world.ended is not None:
            return None
        try:
            await self._tick(world)
        except Interruption as interruption:
            return _Standstill.of(interruption)
        finally:
            self._journal.flush()
        # A tick without models never waits; others want their turn of the event loop.
        await asyncio.sleep(0)
        return None

    async def _tick(self, world: World) -> None:
        began = time.perf_counter()
        posted = [control for control in self._store.controls(self._sim) if control.kind not in _NO_EVENTS]
        self._journal.begin(world.tick)
        interventions = [Intervention(control.id, control.kind, control.payload) for control in posted]
        new, drafts = await advance(self._game, world, self._decider, interventions)
        self._journal.flush()
        answered = [control.id for control in self._store.controls(self._sim) if _is_answer(control, world.tick)]
        self._commits.add(new, drafts, world.tick, [*(control.id for control in posted), *answered])
        self._journal.forget(world.tick)
        self.world = new
        self.ticks += 1
        self.seconds += time.perf_counter() - began

    def _stop(self, world: World, control: Control) -> None:
        self.world = replace(world, ended="stopped", seq=world.seq + 1)
        draft = EventDraft("commit", "sim.ended", {"reason": "stopped"})
        self._commits.add(self.world, [draft], world.tick, [control.id])


def _outwardly(standstill: _Standstill) -> tuple[Status, str]:
    assert standstill.status != "failed"
    return standstill.status, standstill.reason


def _paid(spec: SimulationSpec, calls: Sequence[Call]) -> Sequence[Call]:
    """The calls that a simulation made itself: a fork does not pay for those of the history that it shares."""
    replay = spec.replay
    return [call for call in calls if call.tick >= replay.until] if isinstance(replay, HybridReplay) else calls


_NO_EVENTS = ("pause", "stop", "answer")


def _is_answer(control: Control, tick: int) -> bool:
    return control.kind == "answer" and int(str(control.payload["request"]).partition(".")[0]) <= tick


def result_of(game: Game, store: Store, sim: str, world: World | None, status: Status, reason: str) -> Result:
    """What a run gives back; one that has not come to its beginning has no world."""
    if world is None:
        return Result(game.spec, sim, status, reason, 0, {}, {}, (), ())
    events = tuple(store.events(sim))
    values = tuple(event.payload["values"] for event in events if event.kind == "metric.recorded")
    outcome = game.scenario.outcome(world.state) if world.tick else {}
    return Result(game.spec, sim, status, reason, world.tick, world.state, outcome, values, events)


def _check_models(spec: SimulationSpec, client: Models | None) -> None:
    """See that a client reaches every model that a spec names."""
    known, names = () if client is None else client.models, served_names(spec)
    missing = next((alias for alias in spec.models if names.get(alias, alias) not in known), None)
    if missing is not None:
        raise SimulationError(
            f"no backend answers for the model {missing}",
            where=f"models.{missing}",
            expected=", ".join(known) or "a client that knows the aliases of `models`",
        )
