"""Making simulations, finding them, and what they can be made of."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from services.http.access import Principal, require
from services.http.errors import ApiError, RefusedBody, responses
from services.simulation.desk import Desk, IdempotencyKey, Sim, name_for, refused, view_of
from services.simulation.forms import (
    OperationView,
    SimulationDetail,
    SimulationForm,
    SimulationPage,
    SimulationView,
    Stored,
)
from steerline.config.simulation import SimulationSpec
from steerline.errors import ConfigError
from steerline.serving.paying import PAYER
from steerline.serving.posted import check_posted
from steerline.simulation.game import Game

Reader = Annotated[Principal, Depends(require("simulations.read"))]
Writer = Annotated[Principal, Depends(require("simulations.write"))]
Player = Annotated[Principal, Depends(require("simulations.write", asks_models=True))]
"""Of calls after which models are asked: the caller's day has tokens left."""
Cursor = Annotated[str | None, Query(pattern=r"^\d{1,18}$", description="The `next` of the page before.")]


_OPERATIONS = 200


def routes(desk: Desk) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post(
        "/v1/simulations",
        status_code=202,
        responses=responses(409, 503, refuses=RefusedBody),
        summary="Make a simulation, and have it played",
    )
    async def create(
        form: SimulationForm,
        principal: Player,
        idempotency_key: IdempotencyKey = None,
        start: Annotated[bool, Query(description="Play it at once; otherwise it stands at its beginning.")] = True,
    ) -> SimulationView:
        sim = f"sim-{name_for(principal, idempotency_key, 'simulation')}"
        view = await asyncio.to_thread(lambda: make(desk, sim, checked(desk, form.spec()), principal, start=start))
        await desk.parts.hosts.wake(sim)
        return view

    @router.get("/v1/simulations", responses=responses(503), summary="Simulations, the newest first")
    async def page(
        principal: Reader,  # noqa: ARG001
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[
            str | None, Query(pattern=r"^\d{1,18}$", description="The `next` of the page before.")
        ] = None,
        status: Annotated[list[Stored] | None, Query(description="Only those that stand so.")] = None,
    ) -> SimulationPage:
        before = None if cursor is None else int(cursor)
        found = await asyncio.to_thread(desk.store.hosted_page, limit + 1, before, status or ())
        shown = found[:limit]
        return SimulationPage(
            data=[view_of(hosted) for hosted in shown], next=str(shown[-1].place) if len(found) > limit else None
        )

    @router.get("/v1/simulations/{sim}", responses=responses(404, 503), summary="A simulation")
    async def detail(sim: Sim, principal: Reader) -> SimulationDetail:  # noqa: ARG001
        return await asyncio.to_thread(lambda: _detail(desk, sim))

    return router


def checked(desk: Desk, spec: SimulationSpec) -> SimulationSpec:
    """A posted spec that this endpoint plays.

    Raises:
        ApiError: 400; it does not.
        SimulationError: its scenario cannot be played by these agents.
    """
    endpoint = desk.parts.spec
    registered = () if endpoint.registry is None else endpoint.registry.allow
    try:
        return check_posted(spec, endpoint.models, endpoint.limits.most_tokens, registered)
    except ConfigError as error:
        raise refused(error) from error


def make(desk: Desk, sim: str, spec: SimulationSpec, caller: Principal, *, start: bool) -> SimulationView:
    """Put a simulation into the store, once.

    Raises:
        ApiError: 409; another one was made under the same key.
    """
    plain, store = spec.model_dump(mode="json"), desk.store
    known = store.find(sim)
    if known is not None and known.spec != plain:
        raise ApiError(
            409,
            "idempotency_key_reused",
            "this key stands for another simulation already; send a new key, or the same body",
            param="Idempotency-Key",
        )
    store.create(sim, plain, Game.of(spec).fingerprint)
    # The first time, or after a failure between the two.
    if store.hosted(sim) is None:
        if start:
            desk.play(sim, caller)
        else:
            store.enlist(sim)
    return desk.view(sim)


def _detail(desk: Desk, sim: str) -> SimulationDetail:
    hosted = desk.find(sim)
    operations = [
        OperationView(time=entry.time, kind=entry.kind, payload=dict(entry.payload))
        for entry in desk.store.operations(sim)[-_OPERATIONS:]
        # Whose key pays is nobody else's to know.
        if entry.kind != PAYER
    ]
    return SimulationDetail(**view_of(hosted).model_dump(), spec=dict(hosted.record.spec), operations=operations)
