"""Playing a recorded simulation again without models, and going another way from one of its ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec
from steerline.config.simulation_running import HybridReplay, StrictReplay
from steerline.errors import ReplayError, SimulationError
from steerline.simulation.engine import Engine, Surroundings
from steerline.simulation.event import Event
from steerline.simulation.game import Game
from steerline.simulation.restoring import Recorded, check_chain, posted, restore
from steerline.simulation.result import Result
from steerline.simulation.store.base import Call, Control, Store
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.turn import Decider, Decision, Turn

FORK_LEASE_S = 30.0
_LONGEST_NAME = 63


async def replay_strictly(spec: SimulationSpec, events: Sequence[Event], calls: Sequence[Call]) -> Result:
    """Play a recorded simulation again: scripted brains decide anew, models' answers come from the journal, and what no
    code can repeat comes from the log: people, brains of your own, who came too late.

    Args:
        spec: the simulation.
        events: its log.
        calls: its journal.

    Returns:
        the result, whose hash is that of the log.

    Raises:
        ReplayError: a call is not in the journal or differs, or the history does.
    """
    check_chain(events, "of the record")
    spec = spec.model_copy(update={"replay": StrictReplay(kind="strict")})
    store = MemoryStore()
    around = Surroundings(decider=lambda brains: _People(brains, Recorded(events)), calls=calls)
    engine = Engine(spec, store, "replay", around=around)
    ticks = max((event.tick + 1 for event in events if event.kind == "tick.committed"), default=0)
    result: Result | None = None
    for tick in range(ticks):
        for intervention in posted(event for event in events if event.tick == tick):
            store.post("replay", Control(intervention.id, intervention.kind, intervention.payload))
        result = await engine.run(1)
    if result is None:
        raise ReplayError("there is no committed tick to replay")
    recorded = events[: len(result.events)]
    for new, old in zip(result.events, recorded, strict=False):
        if new.hash != old.hash:
            raise ReplayError(
                "the replayed history differs",
                where=f"event {old.seq}, tick {old.tick}",
                got=f"{new.kind} {new.payload}"[:400],
                expected=f"{old.kind} {old.payload}"[:400],
            )
    return result


_NOT_OURS = {"human", "custom"}


class _People:
    """Brains; but the record where it has no text, a late one, or one of a person or of a brain that is not ours."""

    def __init__(self, brains: Decider, recorded: Recorded) -> None:
        self._brains = brains
        self._recorded = recorded

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        found = [self._recorded.find(turn) for turn in turns]
        taken = {
            place: decision
            for place, (turn, decision) in enumerate(zip(turns, found, strict=True))
            if decision is not None
            and (decision.text is None or decision.late or decision.reviewed or turn.agent.brain.kind in _NOT_OURS)
        }
        asked = [turn for place, turn in enumerate(turns) if place not in taken]
        answers = iter(await self._brains.decide(asked) if asked else ())
        return [taken[place] if place in taken else next(answers) for place in range(len(turns))]


async def fork(
    store: Store,
    sim: str,
    new: str,
    at: int,
    *,
    agents: Mapping[str, AgentSpec] | None = None,
    spec: SimulationSpec | None = None,
    name: str | None = None,
) -> SimulationSpec:
    """Make a simulation that shares another one's history up to a tick, and goes its own way from there.

    Args:
        store: where both are.
        sim: the simulation that is there.
        new: id of the other one.
        at: ticks that they share.
        agents: agents that are different from there on: another brain, steering, profile or memory.
        spec: the spec of the new one, e.g. with further models or limits; none takes the old one's. What decides the
            shared history must be the same.
        name: what people call it; none says where it comes from: `<name>-fork-at-<tick>`.

    Returns:
        the spec to run the new one with.

    Raises:
        SimulationError: there is no such simulation or tick, or the new name is taken.
        CorruptLogError: the log is not whole.
    """
    record = store.find(sim)
    if record is None:
        raise SimulationError(f"the store holds no simulation called {sim}")
    if store.find(new) is not None:
        raise SimulationError(f"the store holds a simulation called {new} already", fix="take another name")
    old_spec = SimulationSpec.model_validate(record.spec)
    events = [event for event in store.events(sim) if event.tick < at and event.kind != "sim.ended"]
    if not any(event.kind == "tick.committed" and event.tick == at - 1 for event in events):
        raise SimulationError(f"{sim} has no tick {at} to fork at", got=at, expected="1 to the ticks it has played")
    until = HybridReplay(kind="hybrid", until=at)
    fork_spec = spec or old_spec
    fork_spec = fork_spec.model_copy(update={"replay": until, "name": name or _forked(fork_spec.name, at)})
    # Rebuilt before anything is written: a log that cannot be played is not worth sharing.
    await restore(Game.of(old_spec), store, sim, until=at)
    store.create(new, fork_spec.model_dump(mode="json"), Game.of(fork_spec).fingerprint)
    lease = store.acquire(new, f"fork of {sim}", FORK_LEASE_S)
    store.append(lease, events)
    store.put_calls(lease, [call for call in store.calls(sim) if call.tick < at])
    store.operate(new, "forked", {"from": sim, "at": at, "seq": events[-1].seq, "hash": events[-1].hash})
    store.release(lease)
    if agents:
        changed = {name: agent.model_dump(mode="json") for name, agent in agents.items()}
        store.post(new, Control(f"fork/{at}", "agents", {"agents": changed}))
    return fork_spec


def _forked(name: str, at: int) -> str:
    mark = f"-fork-at-{at}"
    return name[: _LONGEST_NAME - len(mark)] + mark
