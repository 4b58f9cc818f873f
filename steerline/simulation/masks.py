"""Reads a multi-agent system from a folder of three JSON files: topology, agents, meta.

- `topology.json`: `num_rounds` T, `num_nodes` N, `spatial_masks` [T][N][N], `temporal_masks` [T][N][N], `node_masks`
  [T][N].
- `agents.json`: a list of N agents, alone or under `agents`, each with `name`, and `agent_type`, `role`, `llm` where
  given. One of the type `final_refer` decides: it gets the role `decider`, which a debate knows.
- `meta.json`: `name`, `task`, `default_llm` and whatever else.

An entry [t][u][v] of a spatial mask lets v hear u in round t; of a temporal mask, lets v hear in round t what u said in
round t - 1. Mutual debate over rounds and edges from a node to itself are fine; circles inside a round are not. Nodes
need not be in topological order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from steerline.config.load import changed
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import Profile
from steerline.config.simulation_topology import MasksTopology
from steerline.errors import SimulationError
from steerline.simulation.topologies.masks import Masks

FILES = ("topology.json", "agents.json", "meta.json")
DECIDER = "decider"
"""The role of an agent whose last answer is the system's."""

T = TypeVar("T")


@dataclass(frozen=True)
class MaskedSystem:
    """A system as its folder describes it."""

    topology: MasksTopology
    profiles: Mapping[str, Profile]
    """By agent, in order of rows and columns."""
    models: Mapping[str, str]
    """The model that each agent names."""
    meta: Mapping[str, Any]

    @property
    def rounds(self) -> int:
        """T."""
        return len(self.topology.spatial)

    @property
    def links(self) -> dict[str, Any]:
        """The fields of a spec that say who hears whom, and for how long."""
        return {
            "topology": self.topology.model_dump(mode="json"),
            "engine": "sequential",
            "max_ticks": self.rounds,
        }

    def simulation(self, scenario: str, brain: Mapping[str, Any], **changes: Any) -> SimulationSpec:
        """The system at play in a scenario, for as many ticks as it has rounds.

        Args:
            scenario: its name.
            brain: of every agent; an `llm` one that names no model gets the model that the files give to the agent.
            changes: further fields of the spec, such as `models` and `params`.

        Raises:
            ConfigError: together these make no simulation.
        """
        is_named = brain.get("kind") == "llm" and "model" not in brain
        agents = [
            {
                "id": name,
                "profile": profile.model_dump(mode="json"),
                "brain": {**brain, "model": self.models[name]} if is_named else dict(brain),
            }
            for name, profile in self.profiles.items()
        ]
        plain = SimulationSpec(scenario=scenario, max_ticks=self.rounds)
        return changed(plain, {**self.links, "agents": agents, **changes}, "the system of three files")


class _File(BaseModel):
    """What is read of a file; the rest of it is left alone."""

    model_config = ConfigDict(extra="allow", frozen=True)


class _Topology(_File):
    num_rounds: int
    num_nodes: int
    spatial_masks: list[Any]
    temporal_masks: list[Any]
    node_masks: list[Any]


_Model = str | dict[str, Any] | None
"""A model's name, or a mapping whose `model` it is."""


class _Agent(_File):
    name: str = "agent"
    agent_type: str | None = None
    role: str | None = None
    llm: _Model = None


class _Meta(_File):
    default_llm: _Model = None


def read_masks(folder: Path) -> MaskedSystem:
    """Read a folder.

    Raises:
        SimulationError: a file is missing, is no JSON or says something else, sizes differ, or a round's spatial edges
            form a circle.
    """
    files = [(folder / name, _read(folder / name)) for name in FILES]
    topology, meta = _fitted(*files[0], _Topology), _fitted(*files[2], _Meta)
    path, listed = files[1]
    agents = _fitted(path, listed.get("agents") if isinstance(listed, dict) else listed, list[_Agent])
    where = str(folder / FILES[0])
    names = [_name(agent, number) for number, agent in enumerate(agents)]
    if topology.num_nodes != len(names):
        got, expected = topology.num_nodes, len(names)
        raise SimulationError("the files speak of different agents", where=where, got=got, expected=expected)
    if topology.num_rounds != len(topology.spatial_masks):
        got, expected = topology.num_rounds, len(topology.spatial_masks)
        raise SimulationError("num_rounds is not the length of the masks", where=where, got=got, expected=expected)
    masks = {
        "nodes": names,
        "spatial": _as_numbers(topology.spatial_masks),
        "temporal": _as_numbers(topology.temporal_masks),
        "active": _as_numbers(topology.node_masks),
    }
    try:
        spec = MasksTopology.model_validate({"kind": "masks", **masks})
    except ValidationError as error:
        raise _unread("the masks do not fit", where, error) from error
    Masks(spec)  # refuses circles
    by_name = dict(zip(names, agents, strict=True))
    profiles = {name: _profile(agent, folder) for name, agent in by_name.items()}
    models = {name: _model(agent.llm) or _model(meta.default_llm) for name, agent in by_name.items()}
    return MaskedSystem(spec, profiles, models, meta.model_dump())


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SimulationError(
            "a file of the system cannot be read", where=str(path), got=str(error), expected=", ".join(FILES)
        ) from error


def _fitted(path: Path, content: Any, kind: type[T]) -> T:
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise _unread("a file of the system says something else", str(path), error) from error


def _unread(what: str, where: str, error: ValidationError) -> SimulationError:
    """The first thing that does not fit, and where it stands."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    got = f"{first['input']!r:.100}"
    said = first["msg"].partition(" or instance of ")[0]
    return SimulationError(f"{what}: {said}", where=f"{where}: {place}" if place else where, got=got)


def _model(named: _Model) -> str:
    return str(named.get("model") or "") if isinstance(named, dict) else named or ""


def _name(agent: _Agent, number: int) -> str:
    """The agent's name as an id; two agents of one name would clash, so that the place is part of it."""
    text = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "_.-") else "-" for sign in agent.name)
    return f"{number:02}-{text}"[:63]


def _profile(agent: _Agent, folder: Path) -> Profile:
    kind = agent.agent_type or ""
    role = DECIDER if kind == "final_refer" else agent.role or kind
    return Profile(
        role=role,
        traits=(agent.role,) if agent.role and role == DECIDER else (),
        skills=(kind,) if kind else (),
        provenance="data_derived",
        source_ref=folder.name,
    )


def _as_numbers(value: Any, depth: int = 3) -> Any:
    """A mask, of so many dimensions at most, whose entries may be written as 1, 1.0 or true."""
    if depth and isinstance(value, list):
        return [_as_numbers(item, depth - 1) for item in value]
    return int(value) if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()) else value
