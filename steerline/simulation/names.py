"""Finds scenarios, brains and topologies by name: built in, by entry point, or as `module:Class`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from steerline.config.simulation_agents import CustomBrain
from steerline.config.simulation_topology import CustomTopology
from steerline.errors import SimulationError
from steerline.simulation.scenario import Scenario

SCENARIOS: dict[str, str] = {
    "debate": "steerline.simulation.scenarios.debate:Debate",
    "discussion": "steerline.simulation.scenarios.discussion:Discussion",
    "epidemic": "steerline.simulation.scenarios.epidemic:Epidemic",
    "fishery": "steerline.simulation.scenarios.fishery:Fishery",
    "opinion": "steerline.simulation.scenarios.opinion:Opinion",
    "prisoners_dilemma": "steerline.simulation.scenarios.prisoners_dilemma:PrisonersDilemma",
    "public_goods": "steerline.simulation.scenarios.public_goods:PublicGoods",
    "recommender": "steerline.simulation.scenarios.recommender:Recommender",
    "software": "steerline.simulation.scenarios.software:Software",
    "tidying": "steerline.simulation.scenarios.tidying:Tidying",
    "ultimatum": "steerline.simulation.scenarios.ultimatum:Ultimatum",
    "werewolf": "steerline.simulation.scenarios.werewolf:Werewolf",
}
"""The built-in scenarios. A module is imported when its scenario is asked for."""

SCENARIO_GROUP = "steerline.scenarios"
BRAIN_GROUP = "steerline.brains"
TOPOLOGY_GROUP = "steerline.topologies"

_PARTS = ("Params", "coverage", "scripted")
"""What a scenario's class has beside its methods."""


def scenario_class(name: str) -> type[Scenario[Any]]:
    """The class of a scenario.

    Raises:
        SimulationError: there is none of that name, it cannot be imported, it is no scenario, or lacks parts of one.
    """
    found = find(name, SCENARIOS, SCENARIO_GROUP, "scenario")
    if not (isinstance(found, type) and issubclass(found, Scenario)):
        raise SimulationError(f"{name} is no scenario", got=repr(found), expected="a subclass of Scenario")
    missing = [part for part in _PARTS if part not in dir(found)] + sorted(found.__abstractmethods__)
    if missing:
        raise SimulationError(
            f"{name} is not finished",
            got=f"no {', '.join(missing)}",
            expected="every part of a scenario",
            fix="docs/simulation.md#how-to-write-a-scenario says what each part is",
        )
    return found


def scenario(name: str, params: dict[str, Any]) -> Scenario[Any]:
    """A scenario with its settings.

    Raises:
        SimulationError: no such scenario, or settings that it does not take.
    """
    cls = scenario_class(name)
    try:
        return cls(cls.Params.model_validate(params))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["params", *(str(part) for part in first["loc"])])
        known = ", ".join(cls.Params.model_fields)
        raise SimulationError(
            f"{name} does not take these settings: {first['msg']}", where=where, got=first["input"], expected=known
        ) from error


def brain_class(spec: CustomBrain, place: str = "brain") -> Callable[..., Any]:
    """The class of a brain of somebody's own, which takes these params. `place` is where the spec stands.

    Raises:
        SimulationError: there is none of that name, it cannot be imported, is no brain, or does not take them.
    """
    cls: Callable[..., Any] = find(spec.name, {}, BRAIN_GROUP, "brain")
    if "decide" not in dir(cls):
        expected = "a class with `async def decide(self, turn) -> str`"
        raise SimulationError(f"{spec.name} is no brain", where=f"{place}.name", got=repr(cls), expected=expected)
    try:
        inspect.signature(cls).bind(**spec.params)
    except TypeError as error:
        raise _unfit(spec, "brain", place, error) from error
    return cls


def own_topology(spec: CustomTopology) -> Any:
    """A topology of somebody's own.

    Raises:
        SimulationError: there is none of that name, it cannot be imported, or does not take these params.
    """
    cls = find(spec.name, {}, TOPOLOGY_GROUP, "topology")
    try:
        return cls(**spec.params)
    except TypeError as error:
        raise _unfit(spec, "topology", "topology", error) from error


def _unfit(spec: CustomBrain | CustomTopology, what: str, place: str, error: TypeError) -> SimulationError:
    return SimulationError(
        f"the {what} {spec.name} cannot be made with these params",
        where=f"{place}.params",
        got=f"{spec.params}: {error}",
        expected="a class, and the keyword arguments that it takes",
    )


def find(name: str, builtin: dict[str, str], group: str, what: str) -> Any:
    """What a name stands for.

    Raises:
        SimulationError: nothing is called that, or it cannot be imported.
    """
    target = builtin.get(name)
    module, _, attribute = name.partition(":")
    if target is None and module and attribute:
        target = name
    if target is None:
        for point in entry_points(group=group, name=name):
            target = point.value
    if target is None:
        known = [*builtin, *(point.name for point in entry_points(group=group))]
        raise SimulationError(
            f"there is no {what} called {name}",
            expected=" | ".join([*sorted(known), "`module:Class`"]),
            fix=f"name one of these, or your own as `my_module:My{what.capitalize()}`",
        )
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SimulationError(
            f"the {what} {name} cannot be imported",
            where=target,
            got=str(error),
            fix="run from the folder that holds the module, or install its package",
        ) from error
