"""The floor that robots tidy: where things are, what one step of all robots does, and how soon it can be tidy.

A floor is plain data: `robots` maps ids to `{"at": [x, y], "holds": name or None}`, `objects` maps the names of things
that lie about to `[x, y]`, `stored` lists what is in the box. Distances are in steps along the axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

Floor = Mapping[str, Any]
Cell = Sequence[int]

BOX, WAIT = "box", "wait"
"""Commands besides the names of objects."""


def carry_out(
    floor: Floor, commands: Mapping[str, str], box: Cell, slips: Callable[[str], bool], turn: Callable[[str], float]
) -> dict[str, Any]:
    """One step of all robots at once: towards what they were sent for; there, take it or put it into the box.

    Args:
        floor: how things are; left as it is.
        commands: by robot, an object, `box` or `wait`. Who is not named waits.
        box: cell of the box.
        slips: whether a robot's step fails; it then does nothing.
        turn: of robots that reach for one object, the one with the smallest number gets it.
    """
    robots = {robot: dict(own) for robot, own in floor["robots"].items()}
    objects, stored = dict(floor["objects"]), list(floor["stored"])
    for robot in sorted(robots, key=turn):
        target, own = commands.get(robot, WAIT), robots[robot]
        if target == WAIT or slips(robot):
            continue
        there = box if target == BOX else floor["objects"].get(target)
        if there is None:
            continue
        if list(own["at"]) != list(there):
            own["at"] = _nearer(own["at"], there)
        elif target == BOX and own["holds"] is not None:
            stored.append(own["holds"])
            own["holds"] = None
        elif target in objects and own["holds"] is None:
            own["holds"] = target
            del objects[target]
    return {"robots": robots, "objects": objects, "stored": sorted(stored)}


def distance(one: Cell, other: Cell) -> int:
    """Steps between two cells."""
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def best_plan(floor: Floor, box: Cell) -> tuple[int, dict[str, str]]:
    """The fewest steps in which the floor can be tidy if no step fails, and what each robot does first to get there.

    Every division of the objects is tried. A robot's first thing costs the way there and to the box; each further one
    costs the way from the box and back; taking and putting away cost a step each. The order of all but the first does
    not matter, and the best first one is what lies most on the way.

    Raises:
        ValueError: there are more than a million divisions.
    """
    robots, objects = list(floor["robots"]), list(floor["objects"])
    if len(robots) ** len(objects) > 1_000_000:
        raise ValueError(f"{len(objects)} objects for {len(robots)} robots are too many to plan exactly")
    best, plan = -1, dict.fromkeys(robots, WAIT)
    for owners in product(robots, repeat=len(objects)):
        shares = {robot: [o for o, owner in zip(objects, owners, strict=True) if owner == robot] for robot in robots}
        errands = {robot: _errand(floor, robot, share, box) for robot, share in shares.items()}
        longest = max((steps for steps, _ in errands.values()), default=0)
        if best < 0 or longest < best:
            best, plan = longest, {robot: first for robot, (_, first) in errands.items()}
    return best, plan


def _errand(floor: Floor, robot: str, share: Sequence[str], box: Cell) -> tuple[int, str]:
    """Steps that a robot needs for its share, and what it goes for first."""
    own, objects = floor["robots"][robot], floor["objects"]
    round_trips = sum(2 * distance(objects[name], box) + 2 for name in share)
    if own["holds"] is not None:
        return distance(own["at"], box) + 1 + round_trips, BOX
    if not share:
        return 0, WAIT
    detours = {name: distance(own["at"], objects[name]) - distance(objects[name], box) for name in share}
    first = min(share, key=lambda name: (detours[name], name))
    return round_trips + detours[first], first


def fault(floor: Floor, before: Floor) -> str | None:
    """What is wrong with a floor that is said to follow another; none if every robot and thing is there once."""
    if floor["robots"].keys() != before["robots"].keys():
        return "the robots are others"
    if _things(floor) != _things(before):
        return "a thing is missing or doubled"
    return None


def _things(floor: Floor) -> list[str]:
    held = [own["holds"] for own in floor["robots"].values() if own["holds"] is not None]
    return sorted([*floor["objects"], *floor["stored"], *held])


def _nearer(at: Cell, there: Cell) -> list[int]:
    """A step along x first, then along y."""
    x, y = at
    if x != there[0]:
        return [x + (1 if there[0] > x else -1), y]
    return [x, y + (1 if there[1] > y else -1)]
