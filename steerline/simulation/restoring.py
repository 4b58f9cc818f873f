"""Rebuilds a world from its log: the newest snapshot, and the recorded actions fed through the same tick code."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from steerline.errors import CorruptLogError
from steerline.simulation.event import GENESIS, Event, first_fault, seal
from steerline.simulation.game import Game
from steerline.simulation.genesis import begun
from steerline.simulation.interventions import Intervention
from steerline.simulation.store.base import SimulationRecord, Snapshot, Store
from steerline.simulation.tick import advance
from steerline.simulation.turn import Decision, Turn
from steerline.simulation.world import World

log = logging.getLogger("steerline.simulation")

_ANSWERS = ("action.taken", "action.invalid", "agent.adjusted", "interview.answered")

Place = tuple[int, int, str, str]


class Recorded:
    """Answers turns as the log says they were answered.

    Args:
        events: the log of the ticks that are played again.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._decisions = dict(_decisions(events))

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        """The recorded answer to each turn.

        Raises:
            CorruptLogError: there is none.
        """
        return [self.find(turn) or _missing(turn) for turn in turns]

    def find(self, turn: Turn) -> Decision | None:
        """The recorded answer to a turn; none where there is none."""
        return self._decisions.get(turn.place)


async def restore(game: Game, store: Store, sim: str, *, until: int | None = None) -> World | None:
    """The world as the log has it.

    Args:
        game: the rules.
        store: where the log is.
        sim: the simulation.
        until: ticks to rebuild; none takes all.

    Returns:
        the world; none where nothing has happened yet.

    Raises:
        CorruptLogError: an event was altered or is missing, or the recorded actions do not lead to the recorded world.
    """
    # Before the events, for a run that goes on meanwhile only gets longer.
    record = store.find(sim)
    events = list(store.events(sim))
    check_chain(events, sim)
    if record is not None:
        _check_end(events, record)
    if not events:
        return None
    world = _unpacked(store.snapshot(sim, until), events) or begun(game, events)
    return await rebuild(game, world, events[world.seq :], until)


async def rebuild(game: Game, world: World, events: Sequence[Event], until: int | None = None) -> World:
    """Play recorded ticks again, from a world on.

    Raises:
        CorruptLogError: they do not lead to the recorded world.
    """
    recorded = Recorded(events)
    for number, group in groupby(events, key=lambda event: event.tick):
        tick = list(group)
        if until is not None and number >= until:
            break
        if tick[0].kind == "sim.ended":
            world.ended, world.seq = tick[0].payload["reason"], tick[0].seq
            break
        new, drafts = await advance(game, world, recorded, posted(tick))
        again = list(seal(drafts, number, world.seq, tick[0].prev_hash, 0.0))
        _check_equal(again, tick)
        world = new
    return world


def posted(events: Iterable[Event]) -> list[Intervention]:
    """What came from outside in these events; what the workflow brings comes by itself."""
    applied = (event.payload for event in events if event.kind == "control.applied")
    return [Intervention(p["id"], p["kind"], p["payload"]) for p in applied if p["posted"]]


def check_chain(events: Sequence[Event], sim: str) -> None:
    """See that a log is whole.

    Raises:
        CorruptLogError: it is not; the error names the event.
    """
    fault = first_fault(events, 0, GENESIS)
    if fault is not None:
        raise CorruptLogError(
            "the log is not whole", where=f"simulation {sim}", got=fault, expected="an unbroken chain"
        )


def _check_end(events: Sequence[Event], record: SimulationRecord) -> None:
    """See that a log reaches to where its store says that it does."""
    if len(events) < record.seq or (record.seq and events[record.seq - 1].hash != record.hash):
        raise CorruptLogError(
            "the log is not whole",
            where=f"simulation {record.sim}",
            got=f"event {min(len(events) + 1, record.seq)} is missing: the log ends with event {len(events)}",
            expected=f"event {record.seq} of hash {record.hash[:16]} at the end",
        )


def _decisions(events: Iterable[Event]) -> Iterator[tuple[Place, Decision]]:
    lost: dict[str | None, dict[str, int]] = {}
    nobody: set[str | None] = set()
    for event in events:
        payload = event.payload
        if event.kind == "text.neutralised" and event.phase == "decide":
            lost[event.agent] = payload
        elif event.kind == "human.answered" and payload["by"] == "default":
            nobody.add(event.agent)
        elif event.kind in _ANSWERS and "purpose" in payload and event.agent is not None:
            place = (event.tick, payload["round"], event.agent, payload["purpose"])
            by_default = "nobody answered" if event.agent in nobody else ""
            reason = payload["reason"] if payload["text"] is None else by_default
            nobody.discard(event.agent)
            late, reviewed = payload.get("late", False), payload.get("reviewed", "")
            yield place, Decision(payload["text"], reason, late, reviewed, **lost.pop(event.agent, {}))


def _missing(turn: Turn) -> Decision:
    tick, round_, agent, purpose = turn.place
    raise CorruptLogError(
        "the log holds no answer of an agent that was asked",
        where=f"tick {tick}, sub-round {round_}, agent {agent}, {purpose}",
        fix="go back to the code that recorded it; the manifest names its version",
    )


def _unpacked(snapshot: Snapshot | None, events: Sequence[Event]) -> World | None:
    """The world of a snapshot that belongs to this log; another is left aside, for the log holds everything."""
    if snapshot is None or not 0 < snapshot.seq <= len(events) or events[snapshot.seq - 1].hash != snapshot.hash:
        return None
    try:
        return World.unpack(snapshot.world)
    except (KeyError, TypeError, ValueError) as error:
        # Another version packed it in another way.
        log.info("the snapshot of tick %d is left aside: %r", snapshot.tick, error)
        return None


def _check_equal(again: Sequence[Event], recorded: Sequence[Event]) -> None:
    if [event.hash for event in again[: len(recorded)]] == [event.hash for event in recorded]:
        return
    for new, old in zip(again, recorded, strict=False):
        if new.hash != old.hash:
            raise CorruptLogError(
                "the recorded actions do not lead to the recorded world",
                where=f"event {old.seq}, tick {old.tick}",
                got=f"{new.kind} {new.agent or ''} {new.payload}"[:400],
                expected=f"{old.kind} {old.agent or ''} {old.payload}"[:400],
                fix="go back to the code that recorded it; the manifest names its version",
            )
    raise CorruptLogError(
        "a tick has fewer events than were recorded",
        where=f"tick {recorded[0].tick}",
        got=len(again),
        expected=len(recorded),
    )
