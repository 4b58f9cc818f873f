"""Whether talk is worth its tokens: the run against a vote that may spend as many, on the same question.

After Choi et al., "Debate or Vote" (arXiv 2508.17536). A run is never set against one answer alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.simulation.efficiency.measures import TURNS, tokens
from steerline.simulation.engine import Engine, Surroundings
from steerline.simulation.game import Game
from steerline.simulation.result import Result
from steerline.simulation.store.base import Call, Store

MEASURES = ("voters", "vote_tokens", "vote_correct", "equal_budget_gain")
"""What it adds to the measures of a run."""


def voters(result: Result, calls: Sequence[Call]) -> int:
    """How many agents that answer once a run's tokens pay for, at the mean price of its first tick's turns; at least 1.

    A run without model calls is paid in turns.
    """
    turns = [event for event in result.events if event.kind in TURNS]
    alone = len({event.agent for event in turns if event.tick == 0})
    if not calls:
        return max(1, len(turns))
    first = tokens([call for call in calls if call.tick == 0])
    return max(1, tokens(calls) * alone // first) if first else 1


def ballot(spec: SimulationSpec, count: int) -> SimulationSpec:
    """The simulation of the vote.

    Raises:
        SimulationError: the scenario has no question that could be voted on.
    """
    vote = Game.of(spec).scenario.vote(spec, count)
    if vote is None:
        raise SimulationError(
            f"{spec.scenario} has no vote to stand against",
            where="baseline",
            expected="a scenario with `vote`, such as debate",
            fix="leave `baseline` out",
        )
    return vote


async def against_vote(result: Result, store: Store, around: Surroundings) -> tuple[Result, dict[str, float]]:
    """Play the vote beside an ended run, in the same store, on from where an earlier attempt left it.

    Args:
        result: the run.
        store: holds it.
        around: who reaches the models.

    Returns:
        the vote, and once it has ended: voters, vote_tokens, vote_correct, and equal_budget_gain = correct -
        vote_correct of this run, whose mean over seeds is the gain.

    Raises:
        SimulationError: the scenario has no vote.
    """
    count = voters(result, tuple(store.calls(result.sim)))
    name = f"{result.sim}-vote"
    around = replace(around, on_commit=None)
    vote = await Engine(ballot(result.spec, count), store, name, around=around, steal=True).run()
    if vote.status != "ended":
        return vote, {}
    found = {"voters": float(count), "vote_tokens": float(tokens(tuple(store.calls(name))))}
    run_is, vote_is = (one.outcome.get("correct") for one in (result, vote))
    if isinstance(run_is, bool) and isinstance(vote_is, bool):
        found |= {"vote_correct": float(vote_is), "equal_budget_gain": float(run_is) - float(vote_is)}
    return vote, found
