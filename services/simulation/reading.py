"""Looking into a simulation: its state at a tick, metrics, memories, who told whom, transcript, bundle, comparison."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParam
from fastapi.responses import StreamingResponse

from services.http.errors import ApiError, responses
from services.simulation.desk import Desk, Sim, view_of
from services.simulation.forms import (
    ComparisonView,
    EdgeView,
    GraphView,
    MemoryView,
    MetricsView,
    RecordView,
    StateView,
)
from services.simulation.listing import Reader
from steerline.config.simulation_agents import AGENT_ID
from steerline.serving.worlds import readable, replayed, world_at
from steerline.simulation.bundle import write_bundle
from steerline.simulation.canonical import canonical
from steerline.simulation.store.base import Hosted
from steerline.simulation.talk import TALK, heard_by
from steerline.simulation.traces import traces
from steerline.simulation.world import World

AgentName = Annotated[str, PathParam(pattern=AGENT_ID, description="The agent's id.")]
Tick = Annotated[int | None, Query(ge=0, le=10_000_000, description="After so many ticks; the present one by default.")]
_CHUNK = 1 << 16


def routes(desk: Desk) -> APIRouter:
    """The routes."""
    router = APIRouter()
    _add_worlds(router, desk)
    _add_numbers(router, desk)
    _add_files(router, desk)
    return router


def world_of(desk: Desk, hosted: Hosted, tick: int | None = None) -> World:
    """The world after a tick.

    Raises:
        ApiError: 404; so far it has not been played. 409; its population is not made yet.
    """
    if tick is not None and tick > hosted.ticks:
        raise ApiError(
            404, "tick_not_found", f"{hosted.record.sim} has played {hosted.ticks} ticks, not {tick}", param="tick"
        )
    world = world_at(desk.store, hosted.record, tick)
    if world is None:
        raise ApiError(409, "simulation_state", "its agents are made when it begins, and it has not begun")
    return world


def _add_worlds(router: APIRouter, desk: Desk) -> None:
    @router.get("/v1/simulations/{sim}/state", responses=responses(404, 409, 503), summary="The world after a tick")
    async def state(sim: Sim, principal: Reader, tick: Tick = None) -> StateView:  # noqa: ARG001
        def act(hosted: Hosted) -> StateView:
            world = world_of(desk, hosted, tick)
            agents = [agent.model_dump(mode="json") for agent in world.agents.values()]
            return StateView(tick=world.tick, ended=world.ended, state=readable(world.state), agents=agents)

        return await desk.act(sim, act, wake=False)

    @router.get(
        "/v1/simulations/{sim}/agents/{agent}/memory",
        responses=responses(404, 409, 503),
        summary="What an agent remembers",
    )
    async def memory(sim: Sim, agent: AgentName, principal: Reader, tick: Tick = None) -> MemoryView:  # noqa: ARG001
        def act(hosted: Hosted) -> MemoryView:
            world = world_of(desk, hosted, tick)
            if agent not in world.agents:
                raise ApiError(404, "agent_not_found", f"there is no agent {agent}", param="agent")
            kept = world.memories.get(agent, ())
            records = [RecordView(tick=r.tick, kind=r.kind, text=r.text, about=r.about) for r in kept]
            return MemoryView(agent=agent, tick=world.tick, records=records)

        return await desk.act(sim, act, wake=False)


def _add_numbers(router: APIRouter, desk: Desk) -> None:
    @router.get("/v1/simulations/{sim}/metrics", responses=responses(404, 503), summary="Its numbers after each tick")
    async def metrics(sim: Sim, principal: Reader) -> MetricsView:  # noqa: ARG001
        def act(hosted: Hosted) -> MetricsView:
            rows = _metrics(desk, hosted)
            names = dict.fromkeys(name for values in rows.values() for name in values)
            series = {name: [values.get(name) for values in rows.values()] for name in names}
            return MetricsView(ticks=[tick + 1 for tick in rows], metrics=series)

        return await desk.act(sim, act, wake=False)

    @router.get("/v1/simulations/{sim}/graph", responses=responses(404, 503), summary="Who told whom, and how often")
    async def graph(sim: Sim, principal: Reader) -> GraphView:  # noqa: ARG001
        def act(hosted: Hosted) -> GraphView:
            heard = heard_by(desk.store.events(sim, kinds=TALK))
            listed = [agent["id"] for agent in hosted.record.spec["agents"]]
            spawned = [str(event.agent) for event in desk.store.events(sim, kinds=("agent.spawned",))]
            talkers = sorted({name for pair in heard for name in pair})
            edges = [EdgeView(sender=s, receiver=r, messages=count) for (s, r), count in sorted(heard.items())]
            return GraphView(nodes=list(dict.fromkeys([*listed, *spawned, *talkers])), edges=edges)

        return await desk.act(sim, act, wake=False)

    @router.get(
        "/v1/simulations/{sim}/compare/{other}", responses=responses(404, 503), summary="Two simulations side by side"
    )
    async def compare(sim: Sim, other: Sim, principal: Reader) -> ComparisonView:  # noqa: ARG001
        return await desk.act(sim, lambda hosted: _compare(desk, hosted, desk.find(other)), wake=False)


def _add_files(router: APIRouter, desk: Desk) -> None:
    @router.get(
        "/v1/simulations/{sim}/transcript",
        responses={
            **responses(404, 409, 503),
            200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}},
        },
        response_class=StreamingResponse,
        summary="Its reasoning traces: one line of JSON for each turn",
    )
    async def transcript(sim: Sim, principal: Reader) -> StreamingResponse:  # noqa: ARG001
        lines = await desk.act(sim, lambda hosted: _transcript(desk, hosted), wake=False)
        return StreamingResponse(_chunks(lines), media_type="application/x-ndjson")

    @router.get(
        "/v1/simulations/{sim}/export",
        responses={
            **responses(404, 409, 503),
            200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
        },
        response_class=StreamingResponse,
        summary="Its bundle: spec, log, journal, manifest; it can be checked and replayed anywhere",
    )
    async def export(sim: Sim, principal: Reader) -> StreamingResponse:  # noqa: ARG001
        packed = await desk.act(sim, lambda hosted: _export(desk, hosted), wake=False)
        headers = {"Content-Disposition": f'attachment; filename="{sim}.zip"'}
        return StreamingResponse(_chunks(packed), media_type="application/zip", headers=headers)


def _metrics(desk: Desk, hosted: Hosted) -> dict[int, dict[str, float]]:
    events = desk.store.events(hosted.record.sim, kinds=("metric.recorded",))
    return {event.tick: event.payload["values"] for event in events}


def _begun(hosted: Hosted) -> None:
    if hosted.record.seq == 0:
        raise ApiError(409, "simulation_state", "nothing has happened in it yet")


def _transcript(desk: Desk, hosted: Hosted) -> IO[bytes]:
    _begun(hosted)
    file = TemporaryFile()  # noqa: SIM115  closed once it has been sent
    for trace in traces(replayed(desk.store, hosted.record.sim), desk.store):
        file.write(canonical(trace) + b"\n")
    return file


def _export(desk: Desk, hosted: Hosted) -> IO[bytes]:
    _begun(hosted)
    sim = hosted.record.sim
    file = TemporaryFile()  # noqa: SIM115  closed once it has been sent
    with TemporaryDirectory(prefix="steerline-export-") as folder:
        home = write_bundle(replayed(desk.store, sim), desk.store, Path(folder) / sim)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
            for path in sorted(home.iterdir()):
                packed.write(path, f"{sim}/{path.name}")
    return file


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while chunk := file.read(_CHUNK):
            yield chunk


def _compare(desk: Desk, first: Hosted, second: Hosted) -> ComparisonView:
    states = [
        [event.payload["state"] for event in desk.store.events(hosted.record.sim, kinds=("tick.committed",))]
        for hosted in (first, second)
    ]
    pairs = zip(*states, strict=False)
    differ_at = next((tick + 1 for tick, (a, b) in enumerate(pairs) if a != b), None)
    rows = [_metrics(desk, hosted) for hosted in (first, second)]
    names = dict.fromkeys(name for row in rows for values in row.values() for name in values)
    metrics: dict[str, list[list[Any]]] = {}
    for name in names:
        series = [[values.get(name) for values in row.values()] for row in rows]
        metrics[name] = [list(column) for column in zip(*zip_longest(*series), strict=True)]
    return ComparisonView(first=view_of(first), second=view_of(second), differ_at=differ_at, metrics=metrics)
