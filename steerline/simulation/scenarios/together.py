"""For games in which all who are asked move at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steerline.errors import SimulationError
from steerline.simulation.action import Action


def require_all(actions: Mapping[str, Action], actors: Sequence[str]) -> None:
    """See that a round was answered by all of its actors, or by none.

    Raises:
        SimulationError: by some of them; the engine's mode lets agents move one after another, or not at all.
    """
    if actions and len(actions) < len(actors):
        raise SimulationError(
            "all move at once in this scenario",
            got=f"{len(actions)} of {len(actors)} actions",
            expected="the actions of all",
            fix="set `engine: simultaneous`",
        )
