"""From a population's spec to its agents: dealt to groups, read from a table, or invented by a model."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steerline.config.simulation_agents import (
    AgentSpec,
    GeneratedPopulation,
    GroupSpec,
    LlmBrain,
    MixedPopulation,
    PopulationSpec,
    Profile,
    TablePopulation,
)
from steerline.config.simulation_distributions import Bounds
from steerline.errors import SimulationError
from steerline.simulation.action import Structured
from steerline.simulation.distributions import quantile, range_of
from steerline.simulation.observation import Observation
from steerline.simulation.parsing import parse
from steerline.simulation.rng import CounterRng
from steerline.simulation.text import clean
from steerline.simulation.turn import Decider, Turn

BEFORE_THE_FIRST_TICK = -1
"""The tick under which the journal keeps calls that invent agents."""

_TEXTS = {"type": "array", "items": {"type": "string", "maxLength": 200}, "maxItems": 10}
_PROFILE = Structured(
    {
        "type": "object",
        "properties": {
            "role": {"type": "string", "maxLength": 200},
            "traits": _TEXTS,
            "goals": _TEXTS,
            "skills": _TEXTS,
        },
        "required": ["role"],
        "additionalProperties": False,
    },
    default={"role": ""},
)


async def populate(
    spec: PopulationSpec, scenario: str, rng: CounterRng, decider: Decider, max_text: int
) -> list[AgentSpec]:
    """The agents of a population.

    Raises:
        SimulationError: a table cannot be read, or lacks a column.
    """
    match spec:
        case MixedPopulation():
            return _mixed(spec, rng)
        case TablePopulation():
            return _from_table(spec, rng)
        case GeneratedPopulation():
            return await _generated(spec, scenario, rng, decider, max_text)


def names(prefix: str, count: int) -> list[str]:
    """`prefix-0001` and so on; the order of names is the order of numbers."""
    width = max(4, len(str(count)))
    return [f"{prefix}-{number:0{width}}" for number in range(1, count + 1)]


def _mixed(spec: MixedPopulation, rng: CounterRng) -> list[AgentSpec]:
    dealt = [group for group, size in zip(spec.groups, shares(spec), strict=True) for _ in range(size)]
    groups = rng.shuffled(dealt, "population")
    return [
        _member(name, group, _drawn(group, name, rng))
        for name, group in zip(names(spec.prefix, spec.count), groups, strict=True)
    ]


def _drawn(group: GroupSpec, name: str, rng: CounterRng) -> Profile:
    """The group's profile with an agent's own facts."""
    if not group.draws:
        return group.profile
    facts = {fact: quantile(spec, rng.uniform(f"fact/{fact}", name)) for fact, spec in group.draws.items()}
    bins = group.bins or {}
    told = tuple(f"{fact}: {_told(facts[fact], bins.get(fact), name)}" for fact in group.traits or ())
    return group.profile.model_copy(
        update={"attributes": {**group.profile.attributes, **facts}, "traits": (*group.profile.traits, *told)}
    )


def _told(value: Any, bounds: Bounds | None, where: str) -> str:
    """A fact in words.

    Raises:
        SimulationError: it is to be told as a range and is no number.
    """
    if bounds is None:
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    try:
        return range_of(float(value), bounds)
    except ValueError as error:
        raise SimulationError(
            "what is told as a range is no number", where=where, got=value, fix="take it out of `bins`"
        ) from error


def shares(spec: MixedPopulation) -> list[int]:
    """Agents of each group, by largest remainder."""
    total = sum(group.weight for group in spec.groups)
    exact = [spec.count * group.weight / total for group in spec.groups]
    sizes = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: (sizes[place] - exact[place], place))
    for place in by_remainder[: spec.count - sum(sizes)]:
        sizes[place] += 1
    return sizes


def _from_table(spec: TablePopulation, rng: CounterRng) -> list[AgentSpec]:
    rows = _rows(Path(spec.path))
    wanted = [*([spec.role] if spec.role else []), *spec.traits, *spec.attributes]
    missing = next((column for column in wanted if rows and column not in rows[0]), None)
    if not rows or missing is not None:
        raise SimulationError(
            "the table has no rows" if not rows else f"the table has no column {missing}",
            where=spec.path,
            expected=", ".join(map(str, rows[0])) if rows else "at least one row",
        )
    numbers: Sequence[int] = range(len(rows))
    if spec.count is not None:
        if spec.count > len(rows):
            raise SimulationError("the table has too few rows", where=spec.path, got=len(rows), expected=spec.count)
        numbers = sorted(rng.shuffled(numbers, "population")[: spec.count])
    profiles = [_profile_of(spec, rows[number], number) for number in numbers]
    return [
        _member(name, spec, profile) for name, profile in zip(names(spec.prefix, len(profiles)), profiles, strict=True)
    ]


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                return list(csv.DictReader(file))
            return [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise SimulationError(
            "the population's table cannot be read", where=str(path), got=str(error), expected="a JSONL or CSV file"
        ) from error


def _profile_of(spec: TablePopulation, row: dict[str, Any], number: int) -> Profile:
    source, bins = f"{Path(spec.path).name}, row {number + 1}", spec.bins or {}
    return Profile(
        role=str(row[spec.role]) if spec.role else "",
        traits=tuple(f"{column}: {_told(row[column], bins.get(column), source)}" for column in spec.traits),
        attributes={column: row[column] for column in spec.attributes},
        provenance="data_derived",
        source_ref=source,
    )


async def _generated(
    spec: GeneratedPopulation, scenario: str, rng: CounterRng, decider: Decider, max_text: int
) -> list[AgentSpec]:
    """One call for each agent. An answer that is no profile gives an agent without one, whose source says so."""
    brain = LlmBrain(kind="llm", model=spec.model, sampling=spec.sampling)
    turns = [
        Turn(
            AgentSpec(id=name, brain=brain),
            Observation(
                _PROFILE,
                spec.prompt.format(scenario=scenario, index=number, count=spec.count),
                agent=name,
                tick=BEFORE_THE_FIRST_TICK,
            ),
            rng.at(BEFORE_THE_FIRST_TICK).within(f"population/{name}"),
            "invent",
        )
        for number, name in enumerate(names(spec.prefix, spec.count), 1)
    ]
    agents = []
    for turn, decision in zip(turns, await decider.decide(turns), strict=True):
        parsed = parse(clean(decision.text or "", max_text).text, _PROFILE)
        fine = parsed.status != "defaulted"
        source = f"model {spec.model}" if fine else f"model {spec.model}, unreadable: {parsed.reason}"
        profile = Profile.model_validate(
            {**parsed.payload, "provenance": "model_generated", "source_ref": source[:300]}
        )
        agents.append(_member(turn.agent.id, spec, profile))
    return agents


def _member(name: str, group: GroupSpec | TablePopulation | GeneratedPopulation, profile: Profile) -> AgentSpec:
    evolution = group.evolution if isinstance(group, GroupSpec) else None
    return AgentSpec(id=name, profile=profile, brain=group.brain, memory=group.memory, evolution=evolution)
