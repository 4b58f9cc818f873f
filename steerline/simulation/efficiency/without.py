"""What a part of a run was worth: the run is played again without it, at the same draws, and the two are compared.

Only what the missing part changes is asked anew: answers to prompts that stay the same come from the journal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import ValidationError

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_running import BudgetSpec, CacheReplay
from steerline.config.simulation_topology import DropInterceptor, MessageMatch
from steerline.errors import SimulationError
from steerline.simulation.canonical import digest
from steerline.simulation.efficiency.measures import tokens
from steerline.simulation.efficiency.paths import Path, Paths
from steerline.simulation.engine import Engine, Surroundings
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.store.base import Store

Part = Literal["last_agent", "paths"]
MOST_PATHS = 16
"""Paths that are tried where nothing else is said."""
MEASURES: dict[Part, tuple[str, ...]] = {
    "last_agent": ("without_last_correct", "last_agent_gain", "last_agent_value"),
    "paths": ("paths", "unnecessary_path_ratio"),
}
"""What it adds to the measures of a run."""


async def played_without(
    part: Part, result: Result, store: Store, around: Surroundings, most_paths: int = MOST_PATHS
) -> tuple[Result | None, dict[str, float]]:
    """Play an ended run again without a part of it, in the same store, on from where an earlier attempt left it.

    Args:
        part: what is left out: the last agent that is listed, or paths of talk, each by itself.
        result: the run.
        store: holds it.
        around: who reaches the models.
        most_paths: paths that are tried, drawn at random where there are more.

    Returns:
        a run that has not ended, such as one that waits for a person, if there is one, and what was found:

        For the last agent without_last_correct, last_agent_gain = correct - without_last_correct, and last_agent_value,
        the gain for 1000 tokens of the agent's own calls.

        For paths their number and unnecessary_path_ratio, the share of those tried without which the answer is the
        same (after GEMMAS, arXiv 2507.13190).

        A measure that the run gives no ground for (no question with a right answer, nobody who talks) is left out.

    Raises:
        SimulationError: it cannot be played without its last agent.
    """
    around = replace(around, on_commit=None)
    if part == "last_agent":
        return await _without_the_last(result, store, around)
    return await _without_paths(result, store, around, most_paths)


def less_the_last(spec: SimulationSpec) -> SimulationSpec:
    """A simulation without the last agent that it lists.

    Raises:
        SimulationError: it lists fewer than two, or names the last one elsewhere.
    """
    if len(spec.agents) < 2:
        raise SimulationError(
            "there is no last agent that could be left out",
            where="agents",
            got=f"{len(spec.agents)} listed",
            expected="two or more",
            fix="take `last_agent` out of `without`",
        )
    fewer = {**spec.model_dump(mode="json"), "agents": [agent.model_dump(mode="json") for agent in spec.agents[:-1]]}
    try:
        return _again(SimulationSpec.model_validate(fewer))
    except ValidationError as error:
        raise SimulationError(
            f"the simulation cannot do without its last agent, {spec.agents[-1].id}",
            got=error.errors()[0]["msg"],
            fix="take `last_agent` out of `without`, or list another agent last",
        ) from error


def less_a_path(spec: SimulationSpec, path: Path) -> SimulationSpec:
    """A simulation in which none of a path's messages arrives where the path leads."""
    lost = tuple(
        DropInterceptor(
            kind="drop",
            match=MessageMatch(senders=(step.sender,), recipients=(step.recipient,), ticks=(step.tick,)),
        )
        for step in path
    )
    return _again(spec.model_copy(update={"interceptors": (*spec.interceptors, *lost)}))


def _again(spec: SimulationSpec) -> SimulationSpec:
    changes = {"replay": CacheReplay(kind="cache", sampled=True), "budgets": BudgetSpec()}
    return spec.model_copy(update=changes)


async def _without_the_last(
    result: Result, store: Store, around: Surroundings
) -> tuple[Result | None, dict[str, float]]:
    name = f"{result.sim}-less-last"
    other = await Engine(less_the_last(result.spec), store, name, around=around, steal=True).run()
    if other.status != "ended":
        return other, {}
    was, now = (one.outcome.get("correct") for one in (result, other))
    if not (isinstance(was, bool) and isinstance(now, bool)):
        return None, {}
    gain = float(was) - float(now)
    found = {"without_last_correct": float(now), "last_agent_gain": gain}
    last = result.spec.agents[-1].id
    spent = tokens([call for call in store.calls(result.sim) if call.agent == last])
    return None, {**found, "last_agent_value": 1000 * gain / spent} if spent else found


async def _without_paths(
    result: Result, store: Store, around: Surroundings, most: int
) -> tuple[Result | None, dict[str, float]]:
    paths = Paths(result.events)
    if not len(paths) or "answer" not in result.outcome:
        return None, {}
    tried = paths.some(most, CounterRng(result.spec.seed).within("paths"))
    same = 0
    for path in tried:
        spec = less_a_path(result.spec, path)
        name = f"{result.sim}-less-{digest([list(map(str, path))])[:12]}"
        other = await Engine(spec, store, name, around=around, steal=True).run()
        if other.status != "ended":
            return other, {}
        same += other.outcome.get("answer") == result.outcome["answer"]
    return None, {"paths": float(len(paths)), "unnecessary_path_ratio": same / len(tried)}
