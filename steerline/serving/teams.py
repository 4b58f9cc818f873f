"""Simulations that answer a question: a team that plays for it, or one agent of a simulation that runs anyway.

None of them lives in the request: they are played by whichever host takes them, and whoever asked follows the log.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from steerline.config.inference import SamplingSpec, ServedBackendSpec
from steerline.config.load import changed
from steerline.config.serving import ServingSpec, TeamSpec
from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.inference.request import GenResult, Usage
from steerline.serving.following import Following, Standing, Wanted
from steerline.serving.paying import charge
from steerline.serving.posted import parts_of
from steerline.serving.worlds import world_at
from steerline.simulation.game import Game
from steerline.simulation.store.base import Call, Control, Hosted, Store

_TURNS = ("action.taken", "action.invalid")
_OVER = ("ended", "stopped")
_INTERVIEWS = ("interview.answered", "control.refused")


@dataclass(frozen=True, slots=True)
class Said:
    """What an agent said at its turn."""

    agent: str
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer, and what it took in all."""

    text: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is none: it stands still, was stopped, or refused the question."""

    why: str
    again_s: float | None = None
    """Seconds until a host plays on by itself; none where that is not to come."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """How whoever asks wants the answers of models drawn."""

    seed: int | None = None
    """None takes the simulation's own."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `SamplingSpec` that differ; brains keep the others as they have them."""


Heard = Said | Answered | NoAnswer | None
"""What comes of a question; nothing is a sign of life."""


def check_teams(spec: ServingSpec) -> None:
    """See that every team could be asked, before somebody asks it.

    Raises:
        ConfigError: a team's question has no place in its scenario's settings.
        SimulationError: a team's scenario cannot be played, or it names a model that is not served.
    """
    for name, team in spec.teams.items():
        Game.of(changed(team.simulation, {team.question: "Why?"}, f"the question to the team {name}"))
        for alias, ref in team.simulation.models.items():
            served = ref.backend.name if isinstance(ref.backend, ServedBackendSpec) else None
            if served not in spec.models:
                raise SimulationError(
                    "a team asks a model that is not served",
                    where=f"teams.{name}.simulation.models.{alias}",
                    got=served or ref.backend.kind,
                    expected=", ".join(spec.models) or "a model under `models`",
                    fix="write `backend: {kind: served, name: ...}`",
                )


def begin(store: Store, name: str, team: TeamSpec, question: str, drawn: Drawn, payer: str | None = None) -> str:
    """A new simulation of a team, which the hosts may play.

    Args:
        store: where it is kept.
        name: the team's.
        team: what it plays.
        question: what it is asked.
        drawn: how all that models say in it is drawn.
        payer: id of the key that pays; none where nobody does.

    Returns:
        its id.

    Raises:
        ConfigError: the scenario's settings do not take this question.
        SimulationError: the team cannot play.
    """
    changes: dict[str, Any] = {team.question: question} | ({} if drawn.seed is None else {"seed": drawn.seed})
    samplings = [path for path, part in parts_of(team.simulation) if isinstance(part, SamplingSpec)]
    changes |= {f"{path}.{name}": value for path in samplings for name, value in drawn.sampling.items()}
    spec = changed(team.simulation, changes, f"the question to the team {name}")
    sim = f"team-{name}-{uuid.uuid4().hex[:16]}"
    store.create(sim, spec.model_dump(mode="json"), Game.of(spec).fingerprint)
    charge(store, sim, payer)
    store.want(sim)
    return sim


async def team_answers(store: Store, following: Following, sim: str, team: TeamSpec) -> AsyncGenerator[Heard, None]:
    """What the agents say, and at last the answer of all, or why there is none."""
    async with aclosing(following.follow(sim, wanted=Wanted(_TURNS))) as parts:
        async for part in parts:
            if isinstance(part, Standing):
                yield await asyncio.to_thread(_outcome, store, sim, team)
                return
            if part is None:
                why = await asyncio.to_thread(_standstill, store, sim)
                yield why
                if why is not None:
                    return
                continue
            for event in (json.loads(line.json) for line in part):
                if event["payload"]["text"]:
                    yield Said(event["agent"], event["payload"]["text"])


def ask_agent(store: Store, sim: str, agent: str, question: str, drawn: Drawn) -> tuple[str, int]:
    """Put a question to an agent of a simulation, between two of its ticks.

    Returns:
        the id of the control, and the number of the last event before it.

    Raises:
        SimulationError: nobody plays the simulation now, so that nobody would answer.
    """
    record, hosted = store.find(sim), store.hosted(sim)
    is_played = hosted is not None and hosted.due is not None and not is_put_off(hosted)
    if record is None or not is_played or record.status in _OVER:
        raise SimulationError(
            "agents answer while their simulation is played",
            where=sim,
            got="no such simulation" if record is None else f"{record.status}: {record.reason}",
            fix="resume it, or ask an agent of one that is running",
        )
    control = uuid.uuid4().hex
    payload = {"question": question, "agents": [agent], "remember": False, "sampling": dict(drawn.sampling)}
    store.post(sim, Control(control, "interview", {**payload, "seed": drawn.seed}))
    store.nudge(sim)
    return control, record.seq


async def agent_answers(
    store: Store, following: Following, sim: str, agent: str, control: str, after: int
) -> AsyncGenerator[Heard, None]:
    """An agent's answer to what `ask_agent` asked, or why there is none."""
    async with aclosing(following.follow(sim, after, Wanted(_INTERVIEWS))) as parts:
        async for part in parts:
            if isinstance(part, Standing):
                yield NoAnswer(f"{sim} has {part.status}")
                return
            if part is None:
                why = await asyncio.to_thread(_standstill, store, sim)
                yield why
                if why is not None:
                    return
                continue
            for event in (json.loads(line.json) for line in part):
                payload = event["payload"]
                if payload["id"] == control and event["kind"] == "control.refused":
                    yield NoAnswer(payload["why"])
                    return
                if payload["id"] == control and event["agent"] == agent:
                    yield await asyncio.to_thread(_interviewed, store, sim, agent, event)
                    return


def is_put_off(hosted: Hosted) -> bool:
    """Whether a simulation stands still until a host plays on by itself: a model was away, or its key's day is used."""
    return hosted.record.status == "paused" and hosted.due is not None and hosted.due > time.time()


def _standstill(store: Store, sim: str) -> NoAnswer | None:
    """Why a simulation that nobody plays any more stands still."""
    hosted = store.hosted(sim)
    if hosted is None or hosted.record.status in _OVER:
        return None
    # Whoever asks does not wait until a host plays on by itself.
    if hosted.due is not None and not is_put_off(hosted):
        return None
    again_s = None if hosted.due is None else max(0.0, hosted.due - time.time())
    return NoAnswer(f"{sim} is {hosted.record.status}: {hosted.record.reason}", again_s)


def _outcome(store: Store, sim: str, team: TeamSpec) -> Answered | NoAnswer:
    record = store.find(sim)
    assert record is not None
    if record.status != "ended":
        return NoAnswer(f"{sim} was {record.status}")
    world = world_at(store, record)
    assert world is not None, "a simulation that has ended has a world"
    outcome = Game.of(SimulationSpec.model_validate(record.spec)).scenario.outcome(world.state)
    if team.answer not in outcome:
        raise SimulationError(
            "the outcome of a team's scenario holds no such answer",
            where="teams.*.answer",
            got=team.answer,
            expected=", ".join(outcome),
        )
    answer = outcome[team.answer]
    if answer is None:
        return NoAnswer(f"{sim} came to no answer")
    return Answered(str(answer), sum((_usage(call) for call in store.calls(sim)), Usage()))


def _interviewed(store: Store, sim: str, agent: str, event: dict[str, Any]) -> Answered | NoAnswer:
    text = event["payload"]["text"]
    if text is None:
        return NoAnswer(event["payload"]["reason"])
    calls = (call for call in store.calls(sim, event["tick"]) if (call.tick, call.agent) == (event["tick"], agent))
    # Questions come before the move, and an agent whose brain is no model makes no call.
    own = next((call for call in calls if call.result["text"].strip() == text.strip()), None)
    return Answered(text, Usage() if own is None else _usage(own))


def _usage(call: Call) -> Usage:
    return GenResult.from_dict(call.result).usage
