"""The job that plays simulations: one, or a grid of them over seeds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, model_validator

from steerline.config.base import NOT_IDENTITY, Spec, misfit
from steerline.config.cluster import ClusterSpec
from steerline.config.simulation import SimulationSpec
from steerline.config.tracking import TrackingSpec


class SimulateSpec(Spec):
    """A job of simulations, whole."""

    kind: Literal["simulate"] = "simulate"
    """Kind of job."""
    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$", json_schema_extra=NOT_IDENTITY)
    """Readable part of the run's name."""
    simulation: SimulationSpec
    """What is played."""
    grid: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)
    """Dotted paths of `simulation` and the values that each takes, e.g. `params.rounds: [1, 3]`. All combinations are
    played."""
    seeds: tuple[int, ...] = ()
    """Each combination is played once with each of these seeds; none takes `simulation.seed`."""
    baseline: Literal["none", "vote"] = "none"
    """What each simulation is set against: nothing, or a vote that may spend as many tokens on the same question, where
    the scenario has one (`efficiency/equal_budget_gain`)."""
    without: tuple[Literal["last_agent", "paths"], ...] | None = None
    """Parts that each ended simulation is played again without, at the same draws, to see what they were worth: its
    last agent (`efficiency/last_agent_gain`), and paths that talk took, each by itself
    (`efficiency/unnecessary_path_ratio`). Calls whose prompts stay the same are not made again."""
    most_paths: int | None = Field(default=None, ge=1)
    """Paths that are tried of each simulation, drawn at random where there are more; none tries 16."""
    together: int = Field(default=64, ge=1, json_schema_extra=NOT_IDENTITY)
    """Simulations that one worker plays at once. They share its models, and their turns share batches."""
    tracking: TrackingSpec = Field(default=TrackingSpec(), json_schema_extra=NOT_IDENTITY)
    """Where it is recorded."""
    cluster: ClusterSpec = Field(default=ClusterSpec(), json_schema_extra=NOT_IDENTITY)
    """Where it runs. Each worker plays its share of the simulations."""

    @model_validator(mode="after")
    def _each_is_played_once(self) -> SimulateSpec:
        if len(set(self.seeds)) != len(self.seeds):
            raise misfit("a seed is named twice", "seeds", expected="each seed once")
        if "seed" in self.grid:
            raise misfit("`seed` is no axis of the grid", "grid", fix="list the values in `seeds`")
        empty = next((path for path, values in self.grid.items() if not values), None)
        if empty is not None:
            raise misfit(f"`{empty}` takes no value", "grid", expected="at least one value")
        return self
