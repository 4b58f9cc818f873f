"""Many simulations at once, and what came of them over their seeds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParam

from services.http.access import Principal
from services.http.errors import ApiError, FieldProblem, RefusedBody, responses
from services.simulation.desk import FINAL, Desk, IdempotencyKey, name_for, refused, shown_status
from services.simulation.forms import (
    ExperimentDetail,
    ExperimentForm,
    ExperimentPage,
    ExperimentView,
    IntervalView,
    PointView,
)
from services.simulation.listing import Cursor, Player, Reader, Writer, checked, make
from steerline.errors import ConfigError, SimulationError
from steerline.serving.experiments import EXPERIMENT, Member, members, summary
from steerline.simulation.store.base import Summary

Experiment = Annotated[str, PathParam(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]


def routes(desk: Desk) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post(
        "/v1/experiments",
        status_code=202,
        responses=responses(409, 503, refuses=RefusedBody),
        summary="Play a grid of simulations over seeds",
    )
    async def create(
        form: ExperimentForm, principal: Player, idempotency_key: IdempotencyKey = None
    ) -> ExperimentDetail:
        view, first = await asyncio.to_thread(lambda: _create(desk, form, principal, idempotency_key))
        # A host that looks for one finds the others.
        await desk.parts.hosts.wake(first)
        return view

    @router.get("/v1/experiments", responses=responses(503), summary="Experiments, the newest first")
    async def page(
        principal: Reader,  # noqa: ARG001
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        cursor: Cursor = None,
    ) -> ExperimentPage:
        return await asyncio.to_thread(lambda: _page(desk, limit, None if cursor is None else int(cursor)))

    @router.get(
        "/v1/experiments/{name}", responses=responses(404, 503), summary="An experiment, and what came of it so far"
    )
    async def detail(name: Experiment, principal: Reader) -> ExperimentDetail:  # noqa: ARG001
        return await asyncio.to_thread(lambda: _detail(desk, name))

    @router.post(
        "/v1/experiments/{name}:stop",
        status_code=202,
        responses=responses(404, 503),
        summary="End for good all of its simulations that have not ended, and make no more",
    )
    async def stop(name: Experiment, principal: Writer) -> ExperimentDetail:  # noqa: ARG001
        stopped = await asyncio.to_thread(lambda: _stop(desk, name))
        if stopped:
            # A host that looks for one finds the others.
            await desk.parts.hosts.wake(stopped[0])
        return await asyncio.to_thread(lambda: _detail(desk, name))

    return router


def _create(desk: Desk, form: ExperimentForm, principal: Principal, key: str | None) -> tuple[ExperimentDetail, str]:
    name = f"exp-{name_for(principal, key, 'experiment')}"
    found = _members(desk, form)
    content = {
        "id": name,
        "name": form.name,
        "form": form.model_dump(mode="json"),
        "members": [
            {"sim": f"{name}-{number:04d}", "values": dict(member.values), "seed": member.spec.seed}
            for number, member in enumerate(found)
        ],
    }
    # First the whole, so that the same request sent again makes what a failure left out.
    if desk.store.put_experiment(name, content)["form"] != content["form"]:
        raise ApiError(
            409, "idempotency_key_reused", "this key stands for another experiment already", param="Idempotency-Key"
        )
    sims = [f"{name}-{number:04d}" for number in range(len(found))]
    for sim, member in zip(sims, found, strict=True):
        hosted = desk.store.hosted(sim)
        if hosted is None or hosted.number == 0:
            if desk.store.is_stopped(name):
                break
            make(desk, sim, member.spec, principal, start=False)
            desk.store.operate(sim, EXPERIMENT, {"name": name, "values": dict(member.values)})
            # Whoever stops it notes that first and then looks for simulations: one of the two sees what the other did.
            if desk.store.is_stopped(name):
                desk.stop(sim)
            else:
                desk.play(sim, principal)
    return _detail(desk, name), sims[0]


def _members(desk: Desk, form: ExperimentForm) -> list[Member]:
    """The simulations, each fit to be played here: a grid reaches every field of a spec, also what a form refuses."""
    try:
        found = members(form.simulation.spec(), form.grid, form.seeds)
    except ConfigError as error:
        raise refused(error) from error
    fit = []
    for member in found:
        shown = ", ".join(f"{path}: {value}" for path, value in member.values.items())
        try:
            fit.append(Member(member.values, checked(desk, member.spec)))
        except SimulationError as error:
            problem = FieldProblem(path="grid", message=f"at {shown or 'the simulation'}: {error.what}")
            raise ApiError.unfit([problem]) from error
    return fit


def _page(desk: Desk, limit: int, before: int | None) -> ExperimentPage:
    found = desk.store.experiments(limit + 1, before)
    shown = found[:limit]
    data = [_view(content) for _, content in shown]
    return ExperimentPage(data=data, next=str(shown[-1][0]) if len(found) > limit else None)


def _view(content: Mapping[str, Any]) -> ExperimentView:
    return ExperimentView(id=content["id"], name=content["name"], simulations=len(content["members"]))


def _states(found: Sequence[Summary]) -> dict[str, int]:
    return dict(Counter(str(shown_status(one.status, one.due)) for one in found))


def _found(desk: Desk, name: str) -> Mapping[str, Any]:
    """An experiment as it was made."""
    content = desk.store.experiment(name)
    if content is None:
        raise ApiError(404, "experiment_not_found", f"there is no experiment {name}", param="name")
    return content


def _summaries(desk: Desk, content: Mapping[str, Any]) -> dict[str, Summary]:
    """How those of its simulations stand that the hosts have."""
    return {one.sim: one for one in desk.store.summaries([row["sim"] for row in content["members"]])}


def _stop(desk: Desk, name: str) -> list[str]:
    """Have no more be made, and all end that have not; which those are."""
    content = _found(desk, name)
    desk.store.stop_experiment(name)
    left = [one.sim for one in _summaries(desk, content).values() if one.status not in FINAL]
    for sim in left:
        desk.stop(sim)
    return left


def _detail(desk: Desk, name: str) -> ExperimentDetail:
    content = _found(desk, name)
    found = _summaries(desk, content)
    points: dict[str, list[Mapping[str, Any]]] = {}
    for row in content["members"]:
        points.setdefault(repr(sorted(row["values"].items())), []).append(row)
    return ExperimentDetail(
        **_view(content).model_dump(),
        grid=content["form"]["grid"],
        seeds=list(dict.fromkeys(row["seed"] for row in content["members"])),
        stopped=desk.store.is_stopped(name),
        states=_states(list(found.values())),
        points=[_point(rows, found) for rows in points.values()],
    )


def _point(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Summary]) -> PointView:
    simulations = [found[row["sim"]] for row in rows if row["sim"] in found]
    last = [one.metrics for one in simulations if one.status == "ended" and one.metrics is not None]
    metrics = {
        name: IntervalView(
            mean=interval.mean,
            low=interval.low if is_interval else None,
            high=interval.high if is_interval else None,
            n=count,
        )
        for name, (count, interval, is_interval) in summary(last).items()
    }
    return PointView(
        values=dict(rows[0]["values"]),
        simulations=[row["sim"] for row in rows],
        states=_states(simulations),
        metrics=metrics,
    )
