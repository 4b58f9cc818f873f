"""How agents change by what happened: memory, reflection, spawning and retiring, strategies that spread."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from steerline.config.simulation_agents import AGENT_ID, AgentSpec, LlmBrain, Profile, ScriptedBrain, SummaryMemory
from steerline.simulation.action import FreeText, Structured
from steerline.simulation.mail import ENVIRONMENT
from steerline.simulation.memory import Record, extract, since_summary
from steerline.simulation.scenario import Spawn
from steerline.simulation.scene import Scene, place_of, said
from steerline.simulation.turn import Turn
from steerline.simulation.world import seat_of

_MOST_ITEMS, _MOST_CHARS = 10, 200


async def adjust(scene: Scene) -> None:
    """Everything that changes agents at the end of a tick, in this order: memory, reflection, strategies."""
    _remember(scene)
    await _summarise(scene)
    await _reflect(scene)
    _imitate(scene)


def remember(scene: Scene, agent: str, records: Sequence[Record]) -> None:
    """Add to an agent's memory, and to nobody else's."""
    if _remembers(scene, agent):
        scene.world.memories[agent] = (*scene.world.memories.get(agent, ()), *records)


def spawn(scene: Scene, spawns: Sequence[Spawn]) -> None:
    """Let agents in, within the quotas of those who create them."""
    world, game = scene.world, scene.game
    for wanted in spawns:
        parent, seat = world.agents.get(wanted.parent), wanted.seat
        why = _refusal(scene, parent, seat.id)
        if parent is None or why:
            scene.log("adjust", "spawn.refused", {"agent": seat.id, "why": why}, wanted.parent)
            continue
        world.counters[f"spawned/{parent.id}"] = world.counters.get(f"spawned/{parent.id}", 0) + 1
        brain = parent.brain if wanted.policy is None else ScriptedBrain(kind="scripted", policy=wanted.policy)
        profile = seat.profile.model_copy(update={"source_ref": f"spawned by {parent.id}"})
        agent = parent.model_copy(update={"id": seat.id, "profile": profile, "brain": brain, "spawn_quota": 0})
        world.agents = dict(sorted({**world.agents, agent.id: agent}.items()))
        world.state = game.scenario.joined(world.state, seat_of(agent), scene.rng.within(f"joined/{agent.id}"))
        world.topology = game.topology.joined(world.topology, seat_of(agent), parent.id)
        scene.log("adjust", "agent.spawned", {"parent": parent.id, "agent": agent.model_dump(mode="json")}, agent.id)


def retire(scene: Scene, agents: Sequence[str]) -> None:
    """Let agents go."""
    world, game = scene.world, scene.game
    for agent in agents:
        if world.agents.pop(agent, None) is not None:
            world.inbox.pop(agent, None)
            world.state = game.scenario.left(world.state, agent)
            world.topology = game.topology.left(world.topology, agent)
            scene.log("adjust", "agent.retired", {}, agent)


def _refusal(scene: Scene, parent: AgentSpec | None, name: str) -> str:
    world, spec = scene.world, scene.game.spec
    if parent is None:
        return "the creator is not alive"
    if re.fullmatch(AGENT_ID, name) is None or name == ENVIRONMENT:
        return "the name is none for an agent"
    if name in world.agents:
        return "the name is taken"
    if world.counters.get(f"spawned/{parent.id}", 0) >= parent.spawn_quota:
        return f"the quota of {parent.spawn_quota} is used up"
    if len(world.agents) >= spec.max_agents:
        return f"max_agents = {spec.max_agents} are alive"
    return ""


def _remembers(scene: Scene, agent: str) -> bool:
    member = scene.world.agents.get(agent)
    return member is not None and (member.memory.kind != "none" or member.evolution is not None)


def _remember(scene: Scene) -> None:
    for turn, action in zip(scene.turns, scene.actions, strict=True):
        if not _remembers(scene, turn.agent.id):
            continue
        seen = turn.observation
        records = [Record(scene.tick, "message", message.text, message.sender) for message in seen.messages]
        what = "\n".join(part for part in (seen.text, seen.private) if part)
        records += [Record(scene.tick, "observation", what), Record(scene.tick, "action", action.raw_text)]
        remember(scene, turn.agent.id, records)
    for feedback in scene.feedback:
        text = feedback.text or (f"{feedback.value:g}" if feedback.value is not None else "")
        remember(scene, feedback.target, [Record(scene.tick, "feedback", text)])


async def _summarise(scene: Scene) -> None:
    """Running summaries: by the agent's own model, or an extract where it has none."""
    turns: list[Turn] = []
    for agent in scene.world.agents.values():
        memory = agent.memory
        if not isinstance(memory, SummaryMemory) or (scene.tick + 1) % memory.every:
            continue
        records = scene.world.memories.get(agent.id, ())
        if isinstance(agent.brain, LlmBrain):
            summary, since = since_summary(records)
            told = "\n".join([summary, *(record.shown() for record in since)]).strip()
            question = f"Sum up in at most {memory.max_tokens} words what matters for you of this:\n{told}"
            turns.append(scene.ask(agent.id, question, FreeText(), "summarise"))
        else:
            remember(scene, agent.id, [Record(scene.tick, "summary", extract(records, memory.max_tokens))])
    for turn, decision in zip(turns, await scene.decider.decide(turns) if turns else (), strict=True):
        action = scene.read(turn, decision)
        payload = place_of(turn, adjustment="memory", text=said(decision, action), reason=action.reason)
        scene.log("adjust", "agent.adjusted", payload, turn.agent.id)
        if action.payload:
            remember(scene, turn.agent.id, [Record(scene.tick, "summary", action.payload)])


async def _reflect(scene: Scene) -> None:
    """Self-evolution: agents propose changes of their profiles, of which only what is allowed is made."""
    turns = [
        scene.ask(agent.id, _QUESTION.format(profile=_shown(agent)), _schema(agent), "reflect")
        for agent in scene.world.agents.values()
        if agent.evolution is not None and (scene.tick + 1) % agent.evolution.every == 0
    ]
    for turn, decision in zip(turns, await scene.decider.decide(turns) if turns else (), strict=True):
        action = scene.read(turn, decision)
        profile = _changed(turn.agent.profile, action.payload)
        scene.world.agents[turn.agent.id] = turn.agent.model_copy(update={"profile": profile})
        diff = {name: list(value) if isinstance(value, list) else value for name, value in action.payload.items()}
        payload = place_of(
            turn,
            adjustment="self_evolution",
            text=said(decision, action),
            diff=diff,
            parse=action.parse,
            reason=action.reason,
        )
        scene.log("adjust", "agent.adjusted", payload, turn.agent.id)
        if diff:
            remember(scene, turn.agent.id, [Record(scene.tick, "reflection", action.raw_text)])


_QUESTION = (
    "Look back on what happened. This is who you are:\n{profile}\nWhat would you change about yourself, if anything?"
)


def _shown(agent: AgentSpec) -> str:
    fields = agent.evolution.fields if agent.evolution is not None else ()
    return "\n".join(f"{name}: {_text_of(getattr(agent.profile, name))}" for name in fields)


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else "; ".join(value)


def _schema(agent: AgentSpec) -> Structured:
    text = {"type": "string", "maxLength": _MOST_CHARS}
    several = {"type": "array", "items": text, "maxItems": _MOST_ITEMS}
    fields = agent.evolution.fields if agent.evolution is not None else ()
    properties = {name: text if name == "role" else several for name in fields}
    return Structured({"type": "object", "properties": properties, "additionalProperties": False}, default={})


def _changed(profile: Profile, diff: dict[str, Any]) -> Profile:
    return Profile.model_validate({**profile.model_dump(), **diff})


def _imitate(scene: Scene) -> None:
    """Strategies that spread by success; all compare themselves on the same snapshot."""
    spec, world = scene.game.spec.imitation, scene.world
    if spec is None:
        return
    for feedback in scene.feedback:
        world.scores[feedback.target] = world.scores.get(feedback.target, 0.0) + (feedback.value or 0.0)
    if (scene.tick + 1) % spec.every:
        return
    rng, before, ids = scene.rng.within("imitation"), dict(world.agents), list(world.agents)
    for agent in ids if len(ids) > 1 else ():
        if rng.uniform("compares", agent) >= spec.share:
            continue
        other = rng.choice([one for one in ids if one != agent], "whom", agent)
        gain = world.scores.get(other, 0.0) - world.scores.get(agent, 0.0)
        if (
            rng.uniform("takes over", agent) < _fermi(spec.intensity * gain)
            and before[other].brain != before[agent].brain
        ):
            world.agents[agent] = before[agent].model_copy(update={"brain": before[other].brain})
            scene.log("adjust", "agent.adjusted", {"adjustment": "imitation", "of": other, "gain": gain}, agent)
    world.scores = {}


def _fermi(x: float) -> float:
    # Both forms, so that neither exponential overflows.
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
