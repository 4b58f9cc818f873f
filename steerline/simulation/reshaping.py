"""What somebody outside may make of a state: values of the kinds that stand there, with which a scenario can go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from steerline.config.simulation_agents import AgentSpec, policy_part
from steerline.errors import SimulationError
from steerline.simulation.action import Action
from steerline.simulation.canonical import check_plain
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Scenario, State

_TICKS = 2
"""Ticks that are rehearsed: what the first one leaves is what the second one meets."""
_MOST_ROUNDS = 8


def reshaped(
    scenario: Scenario[Any],
    state: State,
    fields: Mapping[str, Any],
    agents: Mapping[str, AgentSpec],
    rng: CounterRng,
) -> State:
    """A state with some fields set.

    Args:
        scenario: whose state it is.
        state: as it is.
        fields: new values. Numbers become floats where floats stand, and lists become arrays where arrays stand.
        agents: the living.
        rng: draws of a rehearsal.

    Raises:
        SimulationError: there is no such field, a value is of another kind than the one that stands there, or the
            scenario cannot go on from the new state.
    """
    if not isinstance(state, dict):
        raise SimulationError("the state has no fields", got=type(state).__name__)
    unknown = next((name for name in fields if name not in state), None)
    if unknown is not None:
        raise SimulationError(f"the state has no field {unknown}", expected=", ".join(state))
    new = {**state, **{name: _like(value, state[name], name) for name, value in fields.items()}}
    check_plain(new, "the state")
    try:
        _rehearse(scenario, new, agents, rng)
    except Exception as error:  # a scenario may raise anything at values that it does not expect
        # Without the message, which may name what differs from machine to machine and would stand in the log.
        raise SimulationError(f"the scenario cannot go on from this state ({type(error).__name__})") from error
    return new


def _like(value: Any, old: Any, where: str) -> Any:
    """A value in the kind of the one whose place it takes."""
    match old:
        case None:
            return value
        case np.ndarray():
            return _array(value, old, where)
        case float() if isinstance(value, int) and not isinstance(value, bool):
            return _float(value, where)
        case dict() if isinstance(value, dict):
            example = next(iter(old.values()), None)
            return {str(key): _like(item, old.get(key, example), f"{where}.{key}") for key, item in value.items()}
        case list() if isinstance(value, list):
            example = old[0] if old else None
            return [_like(item, old[n] if n < len(old) else example, f"{where}.{n}") for n, item in enumerate(value)]
        case _ if type(value) is type(old):
            return value
    raise SimulationError(f"{where} takes another kind of value", got=type(value).__name__, expected=type(old).__name__)


def _float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise SimulationError(f"{where} takes a number of another size", expected="a float of 64 bits") from error


def _array(value: Any, old: np.ndarray[Any, Any], where: str) -> Any:
    try:
        array = np.asarray(value, dtype=old.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SimulationError(f"{where} takes an array of {old.dtype}", got=str(error)) from error
    if array.shape != old.shape:
        raise SimulationError(f"{where} takes another shape", got=array.shape, expected=old.shape)
    return array


def _rehearse(scenario: Scenario[Any], state: State, agents: Mapping[str, AgentSpec], rng: CounterRng) -> None:
    """Play the next ticks and throw them away: a scenario and its policies are pure."""
    for tick in range(_TICKS):
        for round_ in range(_MOST_ROUNDS):
            actors = sorted(agent for agent in scenario.who_acts(state) if agent in agents)
            draws = rng.within(f"{tick}/{round_}")
            actions = {agent: _action(scenario, state, agents[agent], draws.within(agent)) for agent in actors}
            resolution = scenario.resolve(state, actions, draws)
            state = resolution.state
            check_plain(state, "the state")
            if not resolution.again:
                break
        scenario.metrics(state)
        if scenario.done(state):
            break
    scenario.outcome(state)


def _action(scenario: Scenario[Any], state: State, agent: AgentSpec, rng: CounterRng) -> Action:
    """What an agent does: what its policy says, and the default where it has none."""
    seen, policy = scenario.observe(state, agent.id), policy_part(agent.brain)
    if policy is None:
        return Action(agent.id, 0, seen.legal.default, "", "defaulted", "a rehearsal")
    text = scenario.scripted[policy](replace(seen, agent=agent.id), agent.profile, rng)
    parsed = scenario.parse(text, seen.legal)
    return Action(agent.id, 0, parsed.payload, text, parsed.status, parsed.reason)
