"""What every scenario must do, as one function to call in a test of your own.

    def test_my_scenario_keeps_the_contract() -> None:
        check_scenario(spec)

It plays the spec and looks at every call on the way.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.simulation.action import Action, ActionSpec, FreeText, Parsed
from steerline.simulation.canonical import check_plain
from steerline.simulation.engine import Engine
from steerline.simulation.observation import Observation
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Resolution, Scenario, Seat, State
from steerline.simulation.store.memory import MemoryStore

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
    played = asyncio.run(_play_watched(spec))
    if played.tick == 0:
        raise SimulationError("no tick was played", where=spec.scenario, got=played.reason, expected="at least one")
    store, pieces = MemoryStore(), played
    for _ in range(played.tick):
        pieces = run(spec, store=store, sim="pieces", ticks=1)
        store.drop_snapshots("pieces")
    if pieces.hash != played.hash:
        raise SimulationError("a run in pieces differs from the run in one", where=spec.scenario)


async def _play_watched(spec: SimulationSpec) -> Result:
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
    return await engine.run()


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
        resolution: Resolution = self._checked("resolve", state, actions, rng)
        check_plain(resolution.state, "the state after resolve")
        for event in resolution.events:
            check_plain(dict(event), "an event of resolve")
        return resolution

    def settled(self, state: State, rng: CounterRng) -> State:
        return self._checked("settled", state, rng)

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

    def _checked(self, name: str, *arguments: Any) -> Any:
        """What the scenario's own method gives, if it gives it twice and leaves its arguments as they were."""
        method, before = getattr(super(), name), copy.deepcopy(arguments)
        first, second = method(*arguments), method(*arguments)
        if not _equal(arguments, before):
            raise self._broken(f"{name} changes what it was given", arguments)
        if not _equal(first, second):
            raise self._broken(f"{name} gives another result for the same arguments", second)
        return first

    def _broken(self, what: str, got: Any) -> SimulationError:
        return SimulationError(what, where=type(self).__name__.removeprefix("Watched"), got=f"{got!r:.300}")


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
