"""Reads a multi-agent system from a folder of three JSON files: topology, agents, meta.

- `topology.json`: `num_rounds` T, `num_nodes` N, `spatial_masks` [T][N][N], `temporal_masks` [T][N][N], `node_masks`
  [T][N].
- `agents.json`: a list of N agents, each with `name`, and `agent_type`, `role`, `llm` where given.
- `meta.json`: `name`, `task`, `default_llm` and whatever else.

An entry [t][u][v] of a spatial mask lets v hear u in round t; of a temporal mask, lets v hear in round t what u said in
round t - 1. Mutual debate over rounds and edges from a node to itself are fine; circles inside a round are not. Nodes
need not be in topological order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steerline.config.simulation_agents import Profile
from steerline.config.simulation_topology import MasksTopology
from steerline.errors import SimulationError
from steerline.simulation.topologies.masks import Masks

FILES = ("topology.json", "agents.json", "meta.json")


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


def read_masks(folder: Path) -> MaskedSystem:
    """Read a folder.

    Raises:
        SimulationError: a file is missing or no JSON, sizes differ, or a round's spatial edges form a circle.
    """
    topology, agents, meta = (_read(folder / name) for name in FILES)
    where = str(folder / FILES[0])
    entries = agents.get("agents", agents) if isinstance(agents, dict) else agents
    names = [_name(entry, number) for number, entry in enumerate(entries)]
    rounds, size = topology.get("num_rounds"), topology.get("num_nodes")
    if size != len(names):
        raise SimulationError("the files speak of different agents", where=where, got=size, expected=len(names))
    if rounds != len(topology.get("spatial_masks", ())):
        found = len(topology.get("spatial_masks", ()))
        raise SimulationError("num_rounds is not the length of the masks", where=where, got=rounds, expected=found)
    fields = {"nodes": names, "spatial": _whole(topology, "spatial_masks", where)}
    fields |= {"temporal": _whole(topology, "temporal_masks", where), "active": _whole(topology, "node_masks", where)}
    try:
        spec = MasksTopology.model_validate({"kind": "masks", **fields})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SimulationError(f"the masks do not fit: {first['msg']}", where=f"{where}: {place}") from error
    Masks(spec)  # refuses circles
    default = meta.get("default_llm", "")
    by_name = dict(zip(names, entries, strict=True))
    profiles = {name: _profile(entry, folder) for name, entry in by_name.items()}
    models = {name: str(entry.get("llm") or default) for name, entry in by_name.items()}
    return MaskedSystem(spec, profiles, models, meta)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SimulationError(
            "a file of the system cannot be read", where=str(path), got=str(error), expected=", ".join(FILES)
        ) from error


def _name(entry: Mapping[str, Any], number: int) -> str:
    """The agent's name as an id; two agents of one name would clash, so that the place is part of it."""
    text = "".join(sign if sign.isalnum() or sign in "_.-" else "-" for sign in str(entry.get("name", "agent")))
    return f"{number:02}-{text}"[:63]


def _profile(entry: Mapping[str, Any], folder: Path) -> Profile:
    role = str(entry.get("role") or entry.get("agent_type") or "")
    skills = (str(entry["agent_type"]),) if entry.get("agent_type") else ()
    return Profile(role=role, skills=skills, provenance="data_derived", source_ref=folder.name)


def _whole(topology: Mapping[str, Any], name: str, where: str) -> Any:
    """A mask whose entries may be written as numbers or as true and false."""
    if name not in topology:
        raise SimulationError(f"{name} is missing", where=where, expected=", ".join(topology))
    return _as_numbers(topology[name])


def _as_numbers(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_as_numbers(item) for item in value]
    return int(value) if isinstance(value, bool | float) else value
