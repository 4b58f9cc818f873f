"""What every scenario, topology and brain must do, as one function each to call in a test of your own.

    def test_my_scenario_keeps_the_contract() -> None:
        check_scenario(spec)

It plays the spec and looks at every call on the way.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import CustomBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action, ActionSpec, FreeText, Parsed
from steerline.simulation.canonical import check_plain
from steerline.simulation.engine import Engine
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Resolution, Scenario, Seat, State
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.topology import Topology

_HOSTILE = ("", "ANSWER:", "{", "> ANSWER: 1", "9" * 400, "ANSWER: " + "9" * 400, "[[[" * 500, '{"__array__": [1, 2]}')
_LEAST_BRAINS = 3


def check_scenario(spec: SimulationSpec) -> None:
    """Play a spec of scripted agents, and see that its scenario keeps the contract.

    - Its states, events, actions, metrics and outcome are plain data, and no state is ever changed in place.
    - Every method gives the same for the same arguments.
    - Whatever the text, `parse` gives an action; one that was not read as asked for has a reason, and one that could
      not be read is the default.
    - It has rules, and at least three scripted brains.
    - A run in pieces is the run in one.

    Raises:
        SimulationError: it does not; the message says what and where.
    """
    engine = Engine(spec, MemoryStore())
    inner = engine.game.scenario
    if len(inner.scripted) < _LEAST_BRAINS:
        raise SimulationError(
            "there are too few scripted brains", where=spec.scenario, got=len(inner.scripted), expected=_LEAST_BRAINS
        )
    if not inner.rules().strip():
        raise SimulationError("there are no rules", where=spec.scenario, expected="the beginning of every prompt")
    watched = type(f"Watched{type(inner).__name__}", (_Watched, type(inner)), {})
    engine.game = dataclasses.replace(engine.game, scenario=watched(inner.params))
    _see_pieces(spec, asyncio.run(engine.run()))


def check_topology(spec: SimulationSpec) -> None:
    """Play a spec of scripted agents, and see that its topology keeps the contract.

    - Its states are plain data, and none is ever changed in place.
    - Every method gives the same for the same arguments.
    - Messages reach agents who take part, now or some ticks later; only actors act, each once a tick.
    - A run in pieces is the run in one.

    Raises:
        SimulationError: it does not; the message says what and where.
    """
    engine = Engine(spec, MemoryStore())
    watched = _WatchedTopology(engine.game.topology, [agent.id for agent in spec.agents])
    engine.game = dataclasses.replace(engine.game, topology=watched)
    _see_pieces(spec, asyncio.run(engine.run()))


def check_brain(spec: SimulationSpec) -> None:
    """Play a spec, and see that its agents' brains of your own answer every turn with a text that can be read.

    Raises:
        SimulationError: one does not; the message says which, when, and what it said.
    """
    own = {agent.id for agent in spec.agents if isinstance(agent.brain, CustomBrain)}
    if not own:
        raise SimulationError("no agent has a brain of your own", where="agents", expected="a brain of kind `custom`")
    result = run(spec)
    if result.status != "ended":
        raise SimulationError("a brain does not answer", got=result.reason, expected="a text for every turn")
    for event in result.of_kind("action.invalid"):
        if event.agent in own:
            raise SimulationError(
                f"the brain of {event.agent} said what cannot be read: {event.payload['reason']}",
                where=f"tick {event.tick}",
                got=repr(event.payload["text"]),
            )


def _see_pieces(spec: SimulationSpec, played: Result) -> None:
    if played.tick == 0:
        raise SimulationError("no tick was played", where=spec.scenario, got=played.reason, expected="at least one")
    store, pieces = MemoryStore(), played
    for _ in range(played.tick):
        pieces = run(spec, store=store, sim="pieces", ticks=1)
        store.drop_snapshots("pieces")
    if pieces.hash != played.hash:
        raise SimulationError("a run in pieces differs from the run in one", where=spec.scenario)


class _Watched(Scenario[Any]):
    """Stands before a scenario's class and looks at each of its calls."""

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        return self._checked("reset", seats, rng)

    def who_acts(self, state: State) -> Sequence[str]:
        actors: Sequence[str] = self._checked("who_acts", state)
        if len(set(actors)) != len(actors):
            raise self._broken("who_acts names an agent twice", actors)
        return actors

    def observe(self, state: State, agent: str) -> Observation:
        seen: Observation = self._checked("observe", state, agent)
        for text in _HOSTILE:
            self.parse(text, seen.legal)
        return seen

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        return self._resolution("resolve", state, actions, rng)

    def settled(self, state: State, rng: CounterRng) -> Resolution:
        return self._resolution("settled", state, rng)

    def done(self, state: State) -> bool:
        return bool(self._checked("done", state))

    def metrics(self, state: State) -> Mapping[str, float]:
        values: Mapping[str, float] = self._checked("metrics", state)
        check_plain({name: float(value) for name, value in values.items()}, "the metrics")
        return values

    def parse(self, text: str, spec: ActionSpec) -> Parsed:
        parsed: Parsed = self._checked("parse", text, spec)
        check_plain(parsed.payload, "a parsed action")
        if parsed.status != "ok" and not parsed.reason:
            raise self._broken("an action that was not read as asked for has no reason", parsed)
        # Of free text a scenario may make what it likes, of no text too.
        if parsed.status == "defaulted" and not isinstance(spec, FreeText) and parsed.payload != spec.default:
            raise self._broken("an action that could not be read is not the default", parsed)
        return parsed

    def _resolution(self, name: str, *arguments: Any) -> Resolution:
        resolution: Resolution = self._checked(name, *arguments)
        check_plain(resolution.state, f"the state after {name}")
        for event in resolution.events:
            check_plain(dict(event), f"an event of {name}")
        return resolution

    def _checked(self, name: str, *arguments: Any) -> Any:
        """What the scenario's own method gives."""
        return _twice(self._name, name, getattr(super(), name), *arguments)

    def _broken(self, what: str, got: Any) -> SimulationError:
        return _broken(self._name, what, got)

    @property
    def _name(self) -> str:
        return type(self).__name__.removeprefix("Watched")


class _WatchedTopology(Topology):
    """Stands before a topology and looks at each of its calls."""

    def __init__(self, inner: Topology, agents: Sequence[str]) -> None:
        self._inner = inner
        self._agents = set(agents)

    def start(self, seats: Sequence[Seat], rng: CounterRng) -> Any:
        self._agents |= {seat.id for seat in seats}
        return self._state("start", seats, rng)

    def routes(self, state: Any, draft: Draft) -> Mapping[str, int]:
        delays: Mapping[str, int] = self._checked("routes", state, draft)
        if set(delays) - self._agents or any(delay < 0 for delay in delays.values()):
            raise self._broken("routes lead to nobody, or into the past", delays)
        return delays

    def order(self, state: Any, actors: Sequence[str]) -> Sequence[str]:
        ordered: Sequence[str] = self._checked("order", state, actors)
        if set(ordered) - set(actors) or len(set(ordered)) != len(ordered):
            raise self._broken("order names others than the actors, or one twice", ordered)
        return ordered

    def step(self, state: Any, actions: Sequence[Action], rng: CounterRng) -> Any:
        return self._state("step", state, actions, rng)

    def finished(self, state: Any) -> str | None:
        reason: str | None = self._checked("finished", state)
        return reason

    def joined(self, state: Any, seat: Seat, parent: str) -> Any:
        self._agents.add(seat.id)
        return self._state("joined", state, seat, parent)

    def left(self, state: Any, agent: str) -> Any:
        return self._state("left", state, agent)

    def _state(self, name: str, *arguments: Any) -> Any:
        state = self._checked(name, *arguments)
        check_plain(state, f"the state of {type(self._inner).__name__} after {name}")
        return state

    def _checked(self, name: str, *arguments: Any) -> Any:
        return _twice(type(self._inner).__name__, name, getattr(self._inner, name), *arguments)

    def _broken(self, what: str, got: Any) -> SimulationError:
        return _broken(type(self._inner).__name__, what, got)


def _twice(whose: str, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
    """What a method gives, if it gives it twice and leaves its arguments as they were."""
    before = copy.deepcopy(arguments)
    first, second = method(*arguments), method(*arguments)
    if not _equal(arguments, before):
        raise _broken(whose, f"{name} changes what it was given", arguments)
    if not _equal(first, second):
        raise _broken(whose, f"{name} gives another result for the same arguments", second)
    return first


def _broken(whose: str, what: str, got: Any) -> SimulationError:
    return SimulationError(what, where=whose, got=f"{got!r:.300}")


def _equal(one: Any, other: Any) -> bool:
    """Equality that looks into arrays."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and list(one) == list(other) and _equal([*one.values()], [*other.values()])
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if dataclasses.is_dataclass(one):
        fields = dataclasses.fields(one)
        return type(one) is type(other) and all(_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields)
    return bool(one == other)
