"""What a simulation that came over the network may be: built in, of bounded size, and asking served models alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isqrt
from typing import Any

from pydantic import BaseModel

from steerline.config.inference import BackendSpec, SamplingSpec, ServedBackendSpec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, CustomBrain, TablePopulation
from steerline.config.simulation_running import ModelRef
from steerline.config.simulation_topology import (
    CustomTopology,
    EditInterceptor,
    FullTopology,
    LayeredTopology,
    MessageMatch,
    PoolTopology,
    PrunedTopology,
)
from steerline.config.steering import SteeringSpec
from steerline.errors import ConfigError, Problem
from steerline.serving.patterns import LONGEST_TEXT, MOST_WAYS, ways
from steerline.simulation.canonical import digest
from steerline.simulation.game import Game
from steerline.simulation.genesis import world_of
from steerline.simulation.steering_agents import llm_of

MOST_AGENTS = 10_000
MOST_EDGES = 1_000_000
"""From agents to those that hear them, where nearly everybody may hear everybody. The log names each of them."""
_DENSE = (FullTopology, LayeredTopology, PoolTopology, PrunedTopology)
MOST_MODELS = 64
"""Aliases of a simulation: a host keeps a queue for each model that it reaches."""
MOST_TICKS = 1_000_000
MOST_NUMBER = 100_000
"""Of a scenario's settings: of items, inhabitants, points and the like."""
MOST_LINKS = 100
"""Links of each agent or inhabitant, where their number is set."""
_LINKS = frozenset({"degree", "links", "neighbours", "reach"})
MOST_STOPS = 16
"""Stop texts of an agent."""
MOST_STOP = 1000
"""Characters of a stop text."""
MOST_PATTERN = 200
"""Characters of a regular expression."""
MOST_REPLACEMENT = 1000
"""Characters that one match may be replaced by."""


_VERSION = re.compile(r"models:/([^/@]+)/[0-9]{1,10}")


def check_posted(
    spec: SimulationSpec, served: Mapping[str, BackendSpec], most_tokens: int, registered: Collection[str] = ()
) -> SimulationSpec:
    """A posted simulation, fit to be played here, with the versions of its models.

    Args:
        spec: as it was posted; its models are `served` ones.
        served: the endpoint's models, by name.
        most_tokens: longest answer that may be asked for.
        registered: names of the registry whose versions are served too.

    Raises:
        ConfigError: with every problem, each at its path.
        SimulationError: its scenario cannot be played by these agents.
    """
    _report([*_world_problems(spec), *_part_problems(spec, most_tokens), *_model_problems(spec, served, registered)])
    models = {alias: _versioned(ref, served) for alias, ref in spec.models.items()}
    spec = spec.model_copy(update={"models": models})
    game = Game.of(spec)
    # As the scenario reads them: 1e9 and "1000000000" are numbers to it as well.
    _report(list(_size_problems(game.scenario.params.model_dump(), "params", "")))
    if spec.population is None:
        world_of(game, spec.agents, 0)
    return spec


def check_posted_agents(agents: Mapping[str, AgentSpec], models: Mapping[str, ModelRef], most_tokens: int) -> None:
    """See that posted agents may take part in a simulation that is there.

    Args:
        agents: by the name under which they were posted.
        models: the simulation's.
        most_tokens: longest answer that may be asked for.

    Raises:
        ConfigError: with every problem, each at its path.
    """
    problems = list(_part_problems(agents, most_tokens, "agents"))
    for name, agent in agents.items():
        llm = llm_of(agent)
        if agent.id != name:
            problems.append(Problem("an agent keeps its name", f"agents.{name}.id", got=agent.id, expected=name))
        if llm is not None and llm.model not in models:
            known = ", ".join(models) or "the simulation has no model"
            path = f"agents.{name}.brain.model"
            problems.append(Problem("the simulation has no such model", path, got=llm.model, expected=known))
    _report(problems)


def _report(problems: Sequence[Problem]) -> None:
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"{count} in the simulation", problems=problems)


def _versioned(ref: ModelRef, served: Mapping[str, BackendSpec]) -> ModelRef:
    """A reference that changes with what stands behind its name, so that no answer of another model is taken for it."""
    assert isinstance(ref.backend, ServedBackendSpec)
    name = ref.backend.name
    # A version of the registry stays what it is.
    revision = digest(served[name].model_dump(mode="json"))[:16] if name in served else name
    return ref.model_copy(update={"revision": revision})


def is_registered(name: str, registered: Collection[str]) -> bool:
    """Whether a name is a version of one of some registered models. An alias, which moves, is none."""
    version = _VERSION.fullmatch(name)
    return version is not None and version[1] in registered


def _world_problems(spec: SimulationSpec) -> Iterator[Problem]:
    if ":" in spec.scenario:
        yield _of_ones_own("scenario", spec.scenario)
    if spec.max_ticks > MOST_TICKS:
        yield _too_many("max_ticks", spec.max_ticks, MOST_TICKS)
    if len(spec.models) > MOST_MODELS:
        yield _too_many("models", len(spec.models), MOST_MODELS)
    if spec.max_text > LONGEST_TEXT:
        yield _too_many("max_text", spec.max_text, LONGEST_TEXT)
    yield from _crowd_problems(spec)
    # A world is made before anybody plays it, and takes the memory of all that is set here, and in its `params`.
    yield from _size_problems(spec.topology.model_dump(), "topology", "")
    if spec.replay.kind not in ("live", "cache"):
        yield Problem("a new simulation has nothing to replay", "replay.kind", got=spec.replay.kind, expected="live")


def _crowd_problems(spec: SimulationSpec) -> Iterator[Problem]:
    count = 0 if spec.population is None else getattr(spec.population, "count", None) or 0
    agents = len(spec.agents) + count
    if any(agent.spawn_quota for agent in spec.agents):
        agents = max(agents, spec.max_agents)
    if agents > MOST_AGENTS:
        yield _too_many("agents", agents, MOST_AGENTS)
    elif isinstance(spec.topology, _DENSE) and agents * (agents - 1) > MOST_EDGES:
        yield Problem(
            f"{agents} agents that may all hear each other are more than the endpoint takes",
            "topology",
            got=f"{spec.topology.kind}: {agents * (agents - 1)} edges",
            expected=f"at most {MOST_EDGES} edges, as {isqrt(MOST_EDGES)} agents have",
            fix="link them more loosely (ring, small_world, scale_free), or by `none` where nobody talks",
        )


def _size_problems(value: Any, path: str, name: str) -> Iterator[Problem]:
    match value:
        case dict():
            for key, item in value.items():
                yield from _size_problems(item, f"{path}.{key}", str(key))
        case list() | tuple():
            for number, item in enumerate(value):
                yield from _size_problems(item, f"{path}.{number}", name)
        case int():
            most = MOST_LINKS if name in _LINKS else MOST_NUMBER
            if abs(value) > most:
                yield _too_many(path, value, most)


def _part_problems(whole: Any, most_tokens: int, at: str = "") -> Iterator[Problem]:
    for path, part in parts_of(whole, at):
        match part:
            case CustomBrain() | CustomTopology() if ":" in part.name:
                yield _of_ones_own(f"{path}.name", part.name)
            case TablePopulation():
                yield Problem("files of the endpoint are not read for a request", path, fix="write the agents out")
            case SteeringSpec() if part.vmask is not None:
                yield Problem(
                    "a gate comes with its model", f"{path}.vmask", fix="ask a model that was trained with it"
                )
            case SamplingSpec():
                if part.max_tokens > most_tokens:
                    yield _too_many(f"{path}.max_tokens", part.max_tokens, most_tokens)
                # A model looks for each of them after each token.
                if len(part.stop) > MOST_STOPS:
                    yield _too_many(f"{path}.stop", len(part.stop), MOST_STOPS)
                if any(len(stop) > MOST_STOP for stop in part.stop):
                    yield _too_many(f"{path}.stop", max(map(len, part.stop)), MOST_STOP)
            case EditInterceptor() | MessageMatch() if part.pattern is not None:
                yield from _pattern_problems(f"{path}.pattern", part.pattern)
                if isinstance(part, EditInterceptor) and len(part.replacement) > MOST_REPLACEMENT:
                    yield _too_many(f"{path}.replacement", len(part.replacement), MOST_REPLACEMENT)


def _pattern_problems(path: str, pattern: str) -> Iterator[Problem]:
    if len(pattern) > MOST_PATTERN:
        yield _too_many(path, len(pattern), MOST_PATTERN)
    elif ways(pattern) > MOST_WAYS:
        fix = "repeat once, or so many times: `.{0,40}`"
        yield Problem("several repetitions together may take for ever", path, got=pattern, fix=fix)


def _model_problems(
    spec: SimulationSpec, served: Mapping[str, BackendSpec], registered: Collection[str]
) -> Iterator[Problem]:
    for alias, ref in spec.models.items():
        if not isinstance(ref.backend, ServedBackendSpec):
            fix = 'give the name of a served model: `{"model": "..."}`'
            yield Problem("a request opens no backend of its own", f"models.{alias}", got=ref.backend.kind, fix=fix)
        elif ref.backend.name not in served and not is_registered(ref.backend.name, registered):
            known = ", ".join([*served, *(f"models:/{name}/VERSION" for name in registered)])
            expected = known or "no model is served here"
            yield Problem("no such model is served here", f"models.{alias}", got=ref.backend.name, expected=expected)


def _of_ones_own(path: str, name: str) -> Problem:
    return Problem(
        "code is not named by a request",
        path,
        got=name,
        expected="a built-in name, or an entry point of a package that is installed here",
    )


def _too_many(path: str, got: int, most: int) -> Problem:
    return Problem("this is more than the endpoint takes", path, got=str(got), expected=f"at most {most}")


def parts_of(value: Any, path: str = "") -> Iterator[tuple[str, BaseModel]]:
    """Every spec inside a spec, with its dotted path."""
    if isinstance(value, BaseModel):
        if path:
            yield path, value
        items: Any = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, tuple | list):
        items = enumerate(value)
    else:
        return
    for name, item in items:
        yield from parts_of(item, f"{path}.{name}" if path else str(name))
