"""What comes into a world from outside, at the boundary before a tick: messages, changed state, interviews, surveys.

Each is an event with all that it did, so that a replay needs nobody outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from steerline.config.simulation_agents import AgentSpec
from steerline.config.simulation_running import InjectStep, InterviewStep, SurveyStep
from steerline.errors import SimulationError
from steerline.simulation.action import ActionSpec, Choice, FreeText
from steerline.simulation.adjusting import remember
from steerline.simulation.mail import ENVIRONMENT, send
from steerline.simulation.memory import Record
from steerline.simulation.message import Draft
from steerline.simulation.reshaping import reshaped
from steerline.simulation.scene import Scene, place_of, said
from steerline.simulation.steering_agents import sampled, steered
from steerline.simulation.store.base import ControlKind
from steerline.simulation.turn import Turn


@dataclass(frozen=True)
class Intervention:
    """One thing that comes from outside."""

    id: str
    kind: ControlKind
    """message | state | agents | steering | interview | survey."""
    payload: Mapping[str, Any]
    posted: bool = True
    """Whether somebody posted it; else it stands in the spec's workflow."""


def planned(scene: Scene) -> Iterator[Intervention]:
    """What the spec's workflow has for this tick."""
    for place, step in enumerate(scene.game.spec.workflow):
        if step.at != scene.tick:
            continue
        name = f"workflow/{place}"
        match step:
            case InjectStep():
                payload: dict[str, Any]
                if step.message is not None:
                    payload = {"text": step.message, "recipients": _list(step.recipients)}
                    yield Intervention(f"{name}/message", "message", payload, posted=False)
                if step.state is not None:
                    yield Intervention(f"{name}/state", "state", {"fields": step.state}, posted=False)
            case InterviewStep():
                payload = {"question": step.question, "agents": _list(step.agents), "remember": step.remember}
                yield Intervention(name, "interview", payload, posted=False)
            case SurveyStep():
                payload = {"question": step.question, "options": list(step.options), "sample": step.sample}
                yield Intervention(name, "survey", payload, posted=False)


async def intervene(scene: Scene, intervention: Intervention) -> None:
    """Carry one out. What somebody posted to a running simulation and does not fit is refused, with an event.

    Raises:
        SimulationError: what the workflow plans, or a fork changes, does not fit the world.
    """
    payload = dict(intervention.payload)
    head = {"id": intervention.id, "kind": intervention.kind, "posted": intervention.posted, "payload": payload}
    applied = scene.log("start", "control.applied", head)
    try:
        await _carry_out(scene, intervention, payload)
    except SimulationError as error:
        if not intervention.posted or intervention.kind == "agents":
            raise
        # It would stand before every further attempt.
        scene.log("start", "control.refused", {"id": intervention.id, "why": error.what}, cause=applied)


async def _carry_out(scene: Scene, intervention: Intervention, payload: Mapping[str, Any]) -> None:
    named = payload.get("recipients") if intervention.kind == "message" else payload.get("agents")
    stranger = next((name for name in named or () if name not in scene.world.agents), None)
    if stranger is not None and (intervention.posted or intervention.kind == "agents"):
        raise SimulationError(f"there is no agent {stranger}", expected=", ".join(list(scene.world.agents)[:20]))
    match intervention.kind:
        case "message":
            recipients = payload.get("recipients")
            draft = Draft(
                ENVIRONMENT, str(payload["text"]), recipients=None if recipients is None else tuple(recipients)
            )
            send(scene, [draft], {})
        case "state":
            rng = scene.rng.within("rehearsal")
            world = scene.world
            world.state = reshaped(scene.game.scenario, world.state, payload["fields"], world.agents, rng)
        case "agents":
            _replace_agents(scene, payload["agents"])
        case "steering":
            name, models = payload["agents"][0], scene.game.spec.models
            scene.world.agents[name] = steered(scene.world.agents[name], payload, models)
        case "interview":
            agents = payload.get("agents") or list(scene.world.agents)
            await _question(scene, intervention, agents, FreeText())
        case "survey":
            await _question(scene, intervention, _sample(scene, payload), _options(payload))
        case _:
            raise SimulationError(f"there is no intervention called {intervention.kind}", where=intervention.id)


async def _question(scene: Scene, intervention: Intervention, agents: Sequence[str], legal: ActionSpec) -> None:
    question = str(intervention.payload["question"])
    alive = [agent for agent in agents if agent in scene.world.agents]
    turns = [_drawn(scene.ask(agent, question, legal, "interview"), intervention.payload) for agent in alive]
    for turn, decision in zip(turns, await scene.decider.decide(turns) if turns else (), strict=True):
        action = scene.read(turn, decision)
        payload = place_of(
            turn, id=intervention.id, question=question, answer=action.payload, text=said(decision, action)
        )
        scene.log(
            "start", "interview.answered", {**payload, "parse": action.parse, "reason": action.reason}, turn.agent.id
        )
        if intervention.payload.get("remember"):
            record = Record(scene.tick, "interview", f"I was asked: {question}\nI answered: {action.raw_text}")
            remember(scene, turn.agent.id, [record])
    scene.round += 1


def _drawn(turn: Turn, payload: Mapping[str, Any]) -> Turn:
    """A turn whose answer is drawn as whoever asks wants it, where they say so."""
    agent = sampled(turn.agent, payload.get("sampling") or {})
    seed = payload.get("seed")
    return replace(turn, agent=agent, rng=turn.rng if seed is None else turn.rng.within(f"seed/{seed}"))


def _replace_agents(scene: Scene, agents: Mapping[str, Any]) -> None:
    """Other brains, profiles or memory policies for agents that are there: what a fork changes."""
    for name, spec in agents.items():
        scene.world.agents[name] = AgentSpec.model_validate(spec)


def _sample(scene: Scene, payload: Mapping[str, Any]) -> list[str]:
    ids, size = list(scene.world.agents), payload.get("sample")
    return ids if size is None else sorted(scene.rng.shuffled(ids, "survey", str(payload["question"]))[:size])


def _options(payload: Mapping[str, Any]) -> Choice:
    return Choice(tuple(payload["options"]), default="")


def _list(agents: Sequence[str] | None) -> list[str] | None:
    return None if agents is None else list(agents)
