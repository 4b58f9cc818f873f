"""Plays a simulation from its spec, in this process."""

from __future__ import annotations

import asyncio
import time

from steerline.config.simulation import SimulationSpec
from steerline.simulation.brains import Brains
from steerline.simulation.event import GENESIS, Event, EventDraft, seal
from steerline.simulation.game import Game
from steerline.simulation.result import Result
from steerline.simulation.tick import Tick
from steerline.simulation.turn import Decider
from steerline.simulation.world import World, seat_of


def run(spec: SimulationSpec, decider: Decider | None = None) -> Result:
    """Play a simulation to its end.

    Args:
        spec: the simulation.
        decider: who answers the turns; none takes the brains that the spec names.

    Raises:
        SimulationError: the simulation cannot be played.
    """
    return asyncio.run(play(spec, decider))


async def play(spec: SimulationSpec, decider: Decider | None = None) -> Result:
    """`run`, for a caller with an event loop."""
    game = Game.of(spec)
    decider = decider or Brains(game)
    world = genesis(game)
    events: list[Event] = []

    def record(drafts: list[EventDraft], tick: int) -> None:
        prev = events[-1].hash if events else GENESIS
        events.extend(seal(drafts, tick, len(events), prev, time.time()))

    record([EventDraft("start", "sim.created", {"fingerprint": game.fingerprint})], 0)
    while world.ended is None:
        tick = Tick(game, world, decider)
        number = world.tick
        world = await tick.run()
        record(tick.drafts, number)
    values = tuple(event.payload["values"] for event in events if event.kind == "metric.recorded")
    outcome = game.scenario.outcome(world.state)
    return Result(
        spec, game.fingerprint[:10], "ended", world.ended, world.tick, world.state, outcome, values, tuple(events)
    )


def genesis(game: Game) -> World:
    """The world before the first tick."""
    agents = {agent.id: agent for agent in sorted(game.spec.agents, key=lambda agent: agent.id)}
    seats = [seat_of(agent) for agent in agents.values()]
    return World(
        tick=0,
        state=game.scenario.reset(seats, game.rng.within("reset")),
        topology=game.topology.start(seats, game.rng.within("topology")),
        agents=agents,
    )
