"""The simulations of a job: every combination of its grid with every seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from steerline.config.load import changed
from steerline.config.simulate import SimulateSpec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import CustomBrain
from steerline.config.sweep_points import short_names
from steerline.errors import SimulationError
from steerline.simulation.efficiency.vote import ballot
from steerline.simulation.efficiency.without import MOST_PATHS, Part, less_the_last
from steerline.simulation.game import Game
from steerline.simulation.genesis import world_of
from steerline.simulation.names import brain_class


@dataclass(frozen=True, eq=False)
class Cell:
    """One simulation of a job.

    Args:
        name: its own in the job's folder and in its store; made of what decides its course.
        values: dotted path of the grid to the value it has here.
        spec: the simulation, with its seed.
        against_vote: whether a vote of equal cost is played beside it.
        without: parts that it is played again without, once it has ended.
        most_paths: paths that are tried, if paths are among them.
    """

    name: str
    values: Mapping[str, Any]
    spec: SimulationSpec
    against_vote: bool = False
    without: tuple[Part, ...] = ()
    most_paths: int = MOST_PATHS

    @property
    def point(self) -> str:
        """The combination, for people; empty where there is no grid."""
        names = short_names(list(self.values))
        return " ".join(f"{names[path]}={_shown(value)}" for path, value in self.values.items())

    @property
    def label(self) -> str:
        """The simulation, for people."""
        return f"{self.point} seed={self.spec.seed}".strip()


def cells(job: SimulateSpec) -> list[Cell]:
    """Every simulation of a job, its first seeds first, so that a job that is cut short has compared all points.

    Raises:
        ConfigError: a combination is no valid spec.
        SimulationError: it names a scenario, topology, brain or setting that does not exist, cannot be played by its
            agents, takes the course of another, has no vote to stand against, or cannot be played without its last
            agent.
    """
    found: dict[str, Cell] = {}
    against_vote = job.baseline == "vote"
    seeds = job.seeds or (job.simulation.seed,)
    for seed in seeds:
        for values in product(*job.grid.values()):
            point = dict(zip(job.grid, values, strict=True))
            spec = changed(job.simulation, {**point, "seed": seed}, f"the simulation {point or job.name}, seed {seed}")
            game = Game.of(spec)
            if seed == seeds[0]:
                _check_agents(game)
            name = f"{spec.scenario.rpartition(':')[2]}-{game.fingerprint[:12]}"
            if against_vote:
                Game.of(ballot(spec, 1))
                name += "-vs"
            without, most_paths = job.without or (), job.most_paths or MOST_PATHS
            if "last_agent" in without:
                Game.of(less_the_last(spec))
            if without:
                name += "-wo" + "".join(part[0] for part in without) + (str(most_paths) if "paths" in without else "")
            cell = Cell(name, point, spec, against_vote, without, most_paths)
            twin = found.setdefault(cell.name, cell)
            if twin is not cell:
                raise SimulationError(
                    "two combinations of the grid are one simulation",
                    got=f"{twin.label}, and {cell.label}",
                    expected="values that decide what happens; limits and durability do not",
                    fix="give each path different values, and limits in `simulation` itself",
                )
    return list(found.values())


def _check_agents(game: Game) -> None:
    """See that agents who are known before the run can play, and that brains of somebody's own are there."""
    for place, brain in game.spec.brains():
        if isinstance(brain, CustomBrain):
            brain_class(brain, place)
    if game.spec.population is None:
        world_of(game, game.spec.agents, 0)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
