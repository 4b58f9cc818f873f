"""What is done to a simulation while it runs: pause, resume, step, stop, inject, fork, interview, steer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from services.http.access import Principal
from services.http.errors import ApiError, responses
from services.simulation.desk import Desk, IdempotencyKey, Sim, demand, name_for, refused, status_of
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
from steerline.simulation.replay import fork
from steerline.simulation.steering_agents import steered
from steerline.simulation.store.base import Control, ControlKind, Hosted
from steerline.simulation.world import World

_OPEN: tuple[Status, ...] = ("created", "queued", "running", "paused", "waiting", "failed")


def routes(desk: Desk) -> APIRouter:
    """The routes."""
    router = APIRouter()
    _add_course(router, desk)
    _add_world(router, desk)
    _add_agents(router, desk)
    return router


def _add_course(router: APIRouter, desk: Desk) -> None:
    """Whether it goes on, and how far."""

    @router.post(
        "/v1/simulations/{sim}:pause",
        status_code=202,
        responses=responses(404, 409, 503),
        summary="Pause before a tick",
    )
    async def pause(sim: Sim, principal: Writer, form: PauseForm | None = None) -> SimulationView:  # noqa: ARG001
        def act(hosted: Hosted) -> SimulationView:
            demand(hosted, ("queued", "running", "waiting", "paused"), "paused")
            if status_of(hosted) != "paused":
                _post(desk, sim, "pause", {"reason": (form or PauseForm()).reason}, uuid.uuid4().hex)
                # Nobody plays one that waits for a person, so that nobody would see the control.
                desk.store.nudge(sim)
            return desk.view(sim)

        return await desk.act(sim, act)

    @router.post(
        "/v1/simulations/{sim}:resume",
        status_code=202,
        responses=responses(404, 409, 503),
        summary="Go on, or try again",
    )
    async def resume(sim: Sim, principal: Player) -> SimulationView:
        def act(hosted: Hosted) -> SimulationView:
            demand(hosted, ("created", "queued", "running", "paused", "failed"), "resumed")
            desk.play(sim, principal)
            return desk.view(sim)

        return await desk.act(sim, act)

    @router.post(
        "/v1/simulations/{sim}:step", status_code=202, responses=responses(404, 409, 503), summary="Play some ticks"
    )
    async def step(sim: Sim, principal: Player, form: StepForm | None = None) -> SimulationView:
        ticks = (form or StepForm()).ticks

        def act(hosted: Hosted) -> SimulationView:
            demand(hosted, ("created", "queued", "running", "paused", "failed"), "stepped")
            desk.play(sim, principal, _first_tick(hosted) + ticks)
            return desk.view(sim)

        return await desk.act(sim, act)

    @router.post(
        "/v1/simulations/{sim}:stop", status_code=202, responses=responses(404, 409, 503), summary="End it for good"
    )
    async def stop(sim: Sim, principal: Writer) -> SimulationView:  # noqa: ARG001
        def act(hosted: Hosted) -> SimulationView:
            if hosted.record.status != "stopped":
                demand(hosted, _OPEN, "stopped")
                _post(desk, sim, "stop", {}, "stop")
                desk.store.want(sim)
            return desk.view(sim)

        return await desk.act(sim, act)


def _add_world(router: APIRouter, desk: Desk) -> None:
    """What happens in the world, or in another one that begins like it."""

    @router.post(
        "/v1/simulations/{sim}:inject",
        status_code=202,
        responses=responses(404, 409, 503),
        summary="Tell agents something, or change the state",
    )
    async def inject(
        sim: Sim,
        form: InjectForm,
        principal: Writer,
        idempotency_key: IdempotencyKey = None,
    ) -> ControlView:
        name = _name(principal, idempotency_key, "inject", form)

        def act(hosted: Hosted) -> ControlView:
            demand(hosted, _OPEN, "changed")
            if form.message is not None:
                recipients = None if form.recipients is None else list(form.recipients)
                _post(desk, sim, "message", {"text": form.message, "recipients": recipients}, name)
            if form.state is not None:
                name_of_state = name if form.message is None else f"{name}/state"
                _post(desk, sim, "state", {"fields": form.state}, name_of_state)
            return ControlView(id=name, simulation=desk.view(sim))

        return await desk.act(sim, act)

    @router.post(
        "/v1/simulations/{sim}:fork",
        status_code=202,
        responses=responses(404, 409, 503),
        summary="Another simulation that shares the past and goes its own way",
    )
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


def _add_agents(router: APIRouter, desk: Desk) -> None:
    """What is asked of an agent, and how it is steered."""

    @router.post(
        "/v1/simulations/{sim}/agents/{agent}/interview",
        status_code=202,
        responses=responses(404, 409, 503),
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

        def act(hosted: Hosted) -> ControlView:
            demand(hosted, _OPEN, "asked anything")
            _known(world_of(desk, hosted), agent)
            payload = {"question": form.question, "agents": [agent], "remember": form.remember}
            _post(desk, sim, "interview", payload, name)
            return ControlView(id=name, simulation=desk.view(sim))

        return await desk.act(sim, act)

    @router.post(
        "/v1/simulations/{sim}/agents/{agent}/steering",
        status_code=202,
        responses=responses(404, 409, 503),
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

        def act(hosted: Hosted) -> ControlView:
            demand(hosted, _OPEN, "steered")
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
            _post(desk, sim, "steering", payload, name)
            return ControlView(id=name, simulation=desk.view(sim))

        return await desk.act(sim, act)


def _first_tick(hosted: Hosted) -> int:
    """From where a simulation is stepped: steps that were asked for and are not played yet come first."""
    if status_of(hosted) not in ("queued", "running"):
        return hosted.ticks
    if hosted.until is None:
        raise ApiError(409, "simulation_state", "it runs freely; pause it before you step it")
    return max(hosted.until, hosted.ticks)


def _name(principal: Principal, key: str | None, what: str, form: Form) -> str:
    """A control's id. Another request under the same key, or another caller's, is another control."""
    # Apart from the names that controls of the library's own have.
    return f"key/{name_for(principal, key, what, form.model_dump_json())}"


def _post(desk: Desk, sim: str, kind: ControlKind, payload: Mapping[str, Any], name: str) -> None:
    desk.store.post(sim, Control(name, kind, payload))


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
    asyncio.run(fork(desk.store, hosted.record.sim, new, form.at, agents=form.agents or None))
    if form.start:
        desk.play(new, caller)
    else:
        desk.store.enlist(new)
