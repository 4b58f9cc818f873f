"""The beginning of a simulation: its agents, the world before the first tick, and the events that say so."""

from __future__ import annotations

from collections.abc import Iterable

from steerline.config.simulation_agents import AgentSpec, policy_part
from steerline.errors import SimulationError
from steerline.simulation.canonical import check_plain
from steerline.simulation.event import Event, EventDraft
from steerline.simulation.game import Game
from steerline.simulation.mail import ENVIRONMENT
from steerline.simulation.populations import populate
from steerline.simulation.turn import Decider
from steerline.simulation.world import World, seat_of


async def begin(game: Game, decider: Decider) -> tuple[World, list[EventDraft]]:
    """The world before the first tick, and what the log says about it.

    Raises:
        SimulationError: the agents do not fit the scenario or the topology.
    """
    spec = game.spec
    listed = list(spec.agents)
    others: list[AgentSpec] = []
    if spec.population is not None:
        rng = game.rng.within("population")
        others = await populate(spec.population, spec.scenario, rng, decider, spec.max_text)
    created = {"fingerprint": game.fingerprint, "scenario": spec.scenario, "seed": spec.seed}
    drafts = [EventDraft("start", "sim.created", created)]
    drafts += [EventDraft("start", "agent.spawned", _as_payload(agent), agent.id) for agent in others]
    return world_of(game, [*listed, *others], len(drafts)), drafts


def begun(game: Game, events: Iterable[Event]) -> World:
    """The world before the first tick, from the events that `begin` wrote."""
    first = [event for event in events if event.phase == "start" and event.tick == 0]
    others = [AgentSpec.model_validate(e.payload["agent"]) for e in first if e.kind == "agent.spawned"]
    return world_of(game, [*game.spec.agents, *others], 1 + len(others))


def world_of(game: Game, agents: Iterable[AgentSpec], seq: int) -> World:
    """The world before the first tick.

    Raises:
        SimulationError: two agents share a name or one has the environment's, an agent names a policy that the
            scenario lacks, the spec names a stranger, or these agents do not fit the scenario or the topology.
    """
    living: dict[str, AgentSpec] = {}
    for agent in sorted(agents, key=lambda agent: agent.id):
        if agent.id == ENVIRONMENT:
            raise SimulationError(f"no agent can be named {ENVIRONMENT}", fix="name it otherwise: all hear that sender")
        if agent.id in living:
            raise SimulationError(f"two agents are named {agent.id}", fix="give the population another `prefix`")
        _check_policy(game, agent)
        living[agent.id] = agent
    for place, names in game.spec.named():
        if strangers := sorted(names - living.keys()):
            raise SimulationError(f"{strangers[0]} is no agent", where=place, expected=", ".join(list(living)[:20]))
    seats = [seat_of(agent) for agent in living.values()]
    state = game.scenario.reset(seats, game.rng.within("reset"))
    check_plain(state, f"the state of {game.spec.scenario}")
    return World(0, seq, state, game.topology.start(seats, game.rng.within("topology")), living)


def _check_policy(game: Game, agent: AgentSpec) -> None:
    """See that the scenario has the policies that an agent names."""
    reflection = agent.evolution.policy if agent.evolution is not None else None
    for name in (policy_part(agent.brain), reflection):
        if name is not None and name not in game.scenario.scripted:
            raise SimulationError(
                f"{game.spec.scenario} has no scripted policy {name}",
                where=f"agent {agent.id}",
                expected=" | ".join(game.scenario.scripted),
            )


def _as_payload(agent: AgentSpec) -> dict[str, object]:
    return {"agent": agent.model_dump(mode="json", exclude_defaults=True)}
