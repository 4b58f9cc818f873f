"""What is done to a simulation while it runs: pause, resume, step, stop, inject, fork, interview, steer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter

from services.http.access import Principal
from services.http.errors import ApiError, RefusedBody, responses
from services.simulation.desk import Desk, IdempotencyKey, Sim, name_for, refused, status_of
from services.simulation.forms import (
    ControlView,
    ForkForm,
    Form,
    InjectForm,
    InterviewForm,
    PauseForm,
    SimulationView,
    Status,
    SteeringForm,
    StepForm,
)
from services.simulation.listing import Player, Writer
from services.simulation.reading import AgentName, world_of
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec
from steerline.errors import ConfigError
from steerline.serving.posted import check_posted_agents
from steerline.serving.teams import is_put_off
from steerline.simulation.replay import fork
from steerline.simulation.steering_agents import steered
from steerline.simulation.store.base import Control, Hosted
from steerline.simulation.world import World

Command = Callable[..., Callable[[Any], Any]]
"""Makes a route of a function: what they all have in common is said once."""
_GOES_ON: tuple[Status, ...] = ("created", "queued", "running", "paused", "failed")
_OPEN: tuple[Status, ...] = ("created", "queued", "running", "paused", "waiting", "failed")


def routes(desk: Desk) -> APIRouter:
    """The routes."""
    router = APIRouter()
    command = partial(router.post, status_code=202, responses=responses(404, 409, 503, refuses=RefusedBody))
    _add_course(command, desk)
    _add_world(command, desk)
    _add_agents(command, desk)
    return router


def _add_course(command: Command, desk: Desk) -> None:
    """Whether it goes on, and how far."""

    @command("/v1/simulations/{sim}:pause", summary="Pause before a tick")
    async def pause(sim: Sim, principal: Writer, form: PauseForm | None = None) -> SimulationView:  # noqa: ARG001
        def post(hosted: Hosted) -> None:
            if status_of(hosted) != "paused":
                reason = (form or PauseForm()).reason
                desk.store.post(sim, Control(uuid.uuid4().hex, "pause", {"reason": reason}))
                # Nobody plays one that waits for a person, so that nobody would see the control.
                desk.store.nudge(sim)

        return await desk.command(sim, ("queued", "running", "waiting", "paused"), "paused", post)

    @command("/v1/simulations/{sim}:resume", summary="Go on, or try again")
    async def resume(sim: Sim, principal: Player) -> SimulationView:
        return await desk.command(sim, _GOES_ON, "resumed", lambda _: desk.play(sim, principal))

    @command("/v1/simulations/{sim}:step", summary="Play some ticks")
    async def step(sim: Sim, principal: Player, form: StepForm | None = None) -> SimulationView:
        ticks = (form or StepForm()).ticks
        return await desk.command(
            sim, _GOES_ON, "stepped", lambda hosted: desk.play(sim, principal, _first_tick(hosted) + ticks)
        )

    @command("/v1/simulations/{sim}:stop", summary="End it for good")
    async def stop(sim: Sim, principal: Writer) -> SimulationView:  # noqa: ARG001
        def post(hosted: Hosted) -> None:
            if hosted.record.status != "stopped":
                desk.stop(sim)

        return await desk.command(sim, (*_OPEN, "stopped"), "stopped", post)


def _add_world(command: Command, desk: Desk) -> None:
    """What happens in the world, or in another one that begins like it."""

    @command("/v1/simulations/{sim}:inject", summary="Tell agents something, or change the state")
    async def inject(
        sim: Sim,
        form: InjectForm,
        principal: Writer,
        idempotency_key: IdempotencyKey = None,
    ) -> ControlView:
        name = _name(principal, idempotency_key, "inject", form)

        def post(_: Hosted) -> None:
            if form.message is not None:
                recipients = None if form.recipients is None else list(form.recipients)
                desk.store.post(sim, Control(name, "message", {"text": form.message, "recipients": recipients}))
            if form.state is not None:
                name_of_state = name if form.message is None else f"{name}/state"
                desk.store.post(sim, Control(name_of_state, "state", {"fields": form.state}))

        return ControlView(id=name, simulation=await desk.command(sim, _OPEN, "changed", post))

    @command("/v1/simulations/{sim}:fork", summary="Another simulation that shares the past and goes its own way")
    async def fork_(
        sim: Sim, form: ForkForm, principal: Player, idempotency_key: IdempotencyKey = None
    ) -> SimulationView:
        new = f"sim-{name_for(principal, idempotency_key, f'fork of {sim}', form.model_dump_json())}"

        def act(hosted: Hosted) -> SimulationView:
            if desk.store.hosted(new) is None:
                _fork(desk, hosted, new, form, principal)
            return desk.view(new)

        view = await desk.act(sim, act, wake=False)
        await desk.parts.hosts.wake(new)
        return view


def _add_agents(command: Command, desk: Desk) -> None:
    """What is asked of an agent, and how it is steered."""

    @command(
        "/v1/simulations/{sim}/agents/{agent}/interview",
        summary="Ask an agent something beside the game; the answer is an event `interview.answered`",
    )
    async def interview(
        sim: Sim,
        agent: AgentName,
        form: InterviewForm,
        principal: Player,
        idempotency_key: IdempotencyKey = None,
    ) -> ControlView:
        name = _name(principal, idempotency_key, f"interview of {agent}", form)

        def post(hosted: Hosted) -> None:
            _known(world_of(desk, hosted), agent)
            payload = {"question": form.question, "agents": [agent], "remember": form.remember}
            desk.store.post(sim, Control(name, "interview", payload))

        return ControlView(id=name, simulation=await desk.command(sim, _OPEN, "asked anything", post))

    @command(
        "/v1/simulations/{sim}/agents/{agent}/steering",
        summary="Steer an agent's model otherwise from the next tick on",
    )
    async def steer(
        sim: Sim,
        agent: AgentName,
        form: SteeringForm,
        principal: Writer,
        idempotency_key: IdempotencyKey = None,
    ) -> ControlView:
        name = _name(principal, idempotency_key, f"steering of {agent}", form)

        def post(hosted: Hosted) -> None:
            world, spec = world_of(desk, hosted), SimulationSpec.model_validate(hosted.record.spec)
            _known(world, agent)
            payload: dict[str, Any] = {"agents": [agent]}
            if form.strength is not None:
                payload["strength"] = form.strength
            else:
                payload["steering"] = None if form.steering is None else form.steering.model_dump(mode="json")
            # Refused here where it can be seen already that the engine would refuse it.
            moved = steered(world.agents[agent], payload, spec.models)
            _check_agents(desk, {agent: moved}, spec)
            desk.store.post(sim, Control(name, "steering", payload))

        return ControlView(id=name, simulation=await desk.command(sim, _OPEN, "steered", post))


def _first_tick(hosted: Hosted) -> int:
    """From where a simulation is stepped: steps that were asked for and are not played yet come first."""
    if status_of(hosted) not in ("queued", "running") or (hosted.until is None and is_put_off(hosted)):
        return hosted.ticks
    if hosted.until is None:
        raise ApiError(409, "simulation_state", "it runs freely; pause it before you step it")
    return max(hosted.until, hosted.ticks)


def _name(principal: Principal, key: str | None, what: str, form: Form) -> str:
    """A control's id. Another request under the same key, or another caller's, is another control."""
    # Apart from the names that controls of the library's own have.
    return f"key/{name_for(principal, key, what, form.model_dump_json())}"


def _known(world: World, agent: str) -> None:
    if agent not in world.agents:
        known = ", ".join(list(world.agents)[:20])
        raise ApiError(404, "agent_not_found", f"there is no agent {agent}; expected: {known}", param="agent")


def _check_agents(desk: Desk, agents: Mapping[str, AgentSpec], spec: SimulationSpec) -> None:
    try:
        check_posted_agents(agents, spec.models, desk.parts.spec.limits.most_tokens)
    except ConfigError as error:
        raise refused(error) from error


def _fork(desk: Desk, hosted: Hosted, new: str, form: ForkForm, caller: Principal) -> None:
    if form.at > hosted.ticks:
        played = f"{hosted.ticks} ticks have been played" if hosted.ticks else "no tick has been played yet"
        raise ApiError(409, "simulation_state", f"there is nothing to share up to tick {form.at}: {played}", param="at")
    spec = SimulationSpec.model_validate(hosted.record.spec)
    for name in form.agents:
        _known(world_of(desk, hosted, form.at), name)
    _check_agents(desk, form.agents, spec)
    asyncio.run(fork(desk.store, hosted.record.sim, new, form.at, agents=form.agents or None, name=form.name))
    if form.start:
        desk.play(new, caller)
    else:
        desk.store.enlist(new)
