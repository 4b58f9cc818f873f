"""What can be played: scenarios with their settings, policies, and an example of each."""

from __future__ import annotations

import asyncio
import inspect
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Path as PathParam

from services.http.errors import ApiError, responses
from services.simulation.forms import PolicyView, ScenarioDetail, ScenarioPage, ScenarioView, SimulationForm
from services.simulation.listing import Reader
from steerline.config.render import DIALECT
from steerline.simulation.names import SCENARIO_GROUP, SCENARIOS, scenario_class
from steerline.simulation.sample import sample


def routes() -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/v1/scenarios", responses=responses(503), summary="What can be played")
    async def page(principal: Reader) -> ScenarioPage:  # noqa: ARG001
        return ScenarioPage(data=await asyncio.to_thread(lambda: [_view(name) for name in _names()]))

    @router.get("/v1/scenarios/{name}", responses=responses(404, 503), summary="A scenario, with all that a form needs")
    async def detail(
        name: Annotated[str, PathParam(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$")],
        principal: Reader,  # noqa: ARG001
    ) -> ScenarioDetail:
        if name not in _names():
            known = ", ".join(_names())
            raise ApiError(404, "scenario_not_found", f"there is no scenario {name}; expected: {known}", param="name")
        return await asyncio.to_thread(_detail, name)

    return router


@lru_cache(maxsize=1)
def _names() -> tuple[str, ...]:
    return (*SCENARIOS, *(point.name for point in entry_points(group=SCENARIO_GROUP)))


def _view(name: str) -> ScenarioView:
    cls = scenario_class(name)
    policies = [PolicyView(name=policy, about=_first_line(function)) for policy, function in cls.scripted.items()]
    return ScenarioView(name=name, about=_first_line(cls), policies=policies)


@lru_cache(maxsize=64)
def _detail(name: str) -> ScenarioDetail:
    cls = scenario_class(name)
    return ScenarioDetail(
        **_view(name).model_dump(),
        params={"$schema": DIALECT, **cls.Params.model_json_schema()},
        form={"$schema": DIALECT, **SimulationForm.model_json_schema()},
        example=_example(name),
    )


def _example(name: str) -> dict[str, Any] | None:
    """A small simulation as a form; none where a scenario has settings that must be chosen."""
    if any(field.is_required() for field in scenario_class(name).Params.model_fields.values()):
        return None
    fields = sample(name).model_dump(mode="json", exclude_defaults=True)
    return {**fields, "name": name}


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]
