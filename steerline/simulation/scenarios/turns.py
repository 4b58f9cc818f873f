"""For talks whose agents move at once, or one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from steerline.simulation.action import Action


def is_whole(actions: Mapping[str, Action], moved: Set[str], actors: Sequence[str]) -> bool:
    """Whether a round is over after these actions.

    Who takes turns moves alone, and the round goes on until all have `moved`. Others move at once, those who move at
    all; where but one of them does, the end of the tick closes the round.
    """
    return len(actions) != 1 or not moved < set(actors)
