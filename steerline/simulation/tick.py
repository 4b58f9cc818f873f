"""One tick, the same code whether agents are asked or an earlier run is rebuilt.

Phases: what comes from outside; deliver the messages that are due, observe (all from the same snapshot), decide,
resolve in order of ids, route what was said, and again where the scenario asks for another sub-round; then feedback,
adjust, metrics, commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from steerline.config.simulation_agents import HumanBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action
from steerline.simulation.adjusting import adjust, retire, spawn
from steerline.simulation.canonical import check_plain, digest
from steerline.simulation.event import EventDraft, EventKind
from steerline.simulation.game import Game
from steerline.simulation.interventions import Intervention, intervene, planned
from steerline.simulation.mail import deliver, send
from steerline.simulation.scenario import Resolution
from steerline.simulation.scene import Scene, place_of, said
from steerline.simulation.turn import Decider, Decision, Turn
from steerline.simulation.world import World

MAX_ROUNDS = 1000
"""Sub-rounds of a tick after which a scenario is taken to ask for them without end."""


async def advance(
    game: Game, world: World, decider: Decider, interventions: Sequence[Intervention] = ()
) -> tuple[World, list[EventDraft]]:
    """Carry out a tick.

    Args:
        game: the rules.
        world: the world before the tick; it stays as it was, so that a tick that fails leaves no trace.
        decider: who answers the turns.
        interventions: what was posted from outside since the last tick.

    Returns:
        the world after it, and what happened.

    Raises:
        SimulationError: the scenario asks for sub-rounds without end, or an intervention does not fit.
    """
    scene = Scene(game, world.copy(), decider)
    scene.log("start", "tick.started", {})
    for intervention in (*planned(scene), *interventions):
        await intervene(scene, intervention)
    while await _rounds(scene):
        if scene.round >= MAX_ROUNDS:
            raise SimulationError(
                "the scenario asks for sub-rounds without end",
                where=f"{game.spec.scenario}, tick {scene.tick}",
                expected=f"at most {MAX_ROUNDS} in a tick",
                fix="return `again=False` once the conversation is over",
            )
    _carry_out(scene, game.scenario.settled(scene.world.state, scene.rng.within("settled")))
    for feedback in scene.feedback:
        cause = scene.causes.get(feedback.target)
        scene.log("feedback", "feedback.given", asdict(feedback), feedback.target, cause)
    await adjust(scene)
    _commit(scene)
    return scene.world, scene.drafts


async def _rounds(scene: Scene) -> bool:
    """One sub-round, or one for each actor where turns are taken; whether the tick goes on."""
    game, world = scene.game, scene.world
    actors = [agent for agent in game.scenario.who_acts(world.state) if agent in world.agents]
    if game.spec.engine != "sequential":
        return await _play(scene, sorted(game.topology.order(world.topology, actors)))
    in_turn = game.topology.order(world.topology, actors)
    if not in_turn:
        return await _play(scene, [])
    again = False
    for actor in in_turn:
        if game.scenario.done(world.state):
            return False
        if actor in world.agents:
            again = await _play(scene, [actor])
    return again


async def _play(scene: Scene, actors: Sequence[str]) -> bool:
    """Everything from delivery to routing, for actors that decide on the same snapshot."""
    game, world = scene.game, scene.world
    deliver(scene)
    if game.spec.engine == "event":
        # At the start nobody has been sent anything, and everybody wakes.
        actors = [agent for agent in actors if scene.tick == 0 or world.inbox.get(agent)]
    turns = [_turn(scene, agent) for agent in actors]
    decisions = await scene.decider.decide(turns) if turns else ()
    actions = {turn.agent.id: _read(scene, turn, decision) for turn, decision in zip(turns, decisions, strict=True)}
    resolution = game.scenario.resolve(world.state, actions, scene.rng.within(f"resolve/{scene.round}"))
    _carry_out(scene, resolution, turns)
    scene.turns += turns
    scene.actions += actions.values()
    scene.round += 1
    return resolution.again


def _carry_out(scene: Scene, resolution: Resolution, turns: Sequence[Turn] = ()) -> None:
    """What a resolution leads to; what it says answers what was read at these turns."""
    scene.world.state = resolution.state
    for event in resolution.events:
        scene.log("resolve", "env.changed", dict(event))
    retire(scene, resolution.retired)
    spawn(scene, resolution.spawned)
    read = {turn.agent.id: tuple(message.id for message in turn.observation.messages) for turn in turns}
    send(scene, resolution.messages, read)
    scene.feedback += resolution.feedback


def _turn(scene: Scene, agent: str) -> Turn:
    seen = replace(scene.observe(agent), messages=scene.world.inbox.pop(agent, ()))
    return Turn(scene.world.agents[agent], seen, scene.rng.within(f"brain/{scene.round}/{agent}"))


def _read(scene: Scene, turn: Turn, decision: Decision) -> Action:
    """The action that a decision stands for, and its events."""
    agent = turn.agent.id
    cause = _asked(scene, turn, decision) if isinstance(turn.agent.brain, HumanBrain) else None
    action = scene.read(turn, decision)
    payload = place_of(
        turn,
        payload=action.payload,
        text=said(decision, action),
        parse=action.parse,
        reason=action.reason,
    )
    if decision.late:
        payload["late"] = True
    if decision.reviewed:
        payload["reviewed"] = decision.reviewed
    kind: EventKind = "action.invalid" if action.parse == "defaulted" else "action.taken"
    scene.causes[agent] = scene.log("decide", kind, payload, agent, cause)
    return action


def _asked(scene: Scene, turn: Turn, decision: Decision) -> int:
    """A person's turn: that it was asked for, and whether an answer came."""
    agent = turn.agent.id
    asked = scene.log("decide", "human.requested", {"id": f"{scene.tick}.{scene.round}.{agent}"}, agent)
    return scene.log("decide", "human.answered", {"by": "default" if decision.reason else "person"}, agent, asked)


def _commit(scene: Scene) -> None:
    game, world = scene.game, scene.world
    world.topology = game.topology.step(world.topology, scene.actions, scene.rng.within("topology"))
    values = {name: float(value) for name, value in game.scenario.metrics(world.state).items()}
    scene.log("metrics", "metric.recorded", {"values": values})
    # Rates are counted by the tick.
    world.counters = {key: count for key, count in world.counters.items() if not key.startswith("rate/")}
    world.tick += 1
    world.ended = _ending(scene)
    last = scene.log("commit", "tick.committed", {"state": _digest(scene), "agents": len(world.agents)})
    if world.ended is not None:
        last = scene.log("commit", "sim.ended", {"reason": world.ended})
    world.seq = last


def _digest(scene: Scene) -> str:
    state = scene.world.state
    try:
        return digest(state)
    except (TypeError, ValueError):
        check_plain(state, f"the state of {scene.game.spec.scenario}")  # says where
        raise


def _ending(scene: Scene) -> str | None:
    game, world = scene.game, scene.world
    if game.scenario.done(world.state):
        return "the scenario has ended"
    if scene.had_agents and not world.agents:
        return "no agent is left"
    if world.tick >= game.spec.max_ticks:
        return "max_ticks is reached"
    return game.topology.finished(world.topology)
