"""What is looked at before simulations are played."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from steerline.config.inference import LocalBackendSpec
from steerline.config.model import ModelSpec
from steerline.config.simulate import SimulateSpec
from steerline.config.simulation_running import ModelRef
from steerline.errors import ConfigError, SimulationError
from steerline.orchestration.preflight import checks_cluster, checks_machine, checks_model, checks_tracking
from steerline.orchestration.preflight.core import Check, Finding, failure
from steerline.orchestration.preflight.resources import ClusterResources
from steerline.simulation.cells import Cell, cells


@dataclass(frozen=True)
class SimulateScene:
    """What the checks of a job of simulations look at."""

    spec: SimulateSpec
    cluster: ClusterResources | None = None
    """The cluster's nodes; None when they are not known."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where each leaf of the config was written."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The environment that the job will have."""


def simulations(scene: SimulateScene) -> Iterator[Finding]:
    """Every combination of the grid can be played."""
    try:
        cells(scene.spec)
    except ConfigError as error:
        for problem in error.problems:
            what = f"a combination of the grid is no valid simulation: {problem.path}: {problem.what}"
            yield failure(what, path="grid", got=problem.got, expected=problem.expected, fix=problem.fix)
    except SimulationError as error:
        path = f"simulation.{error.where}" if error.where else "simulation"
        yield failure(error.what, path=path, got=_text(error.got), expected=_text(error.expected), fix=error.fix)


def models(scene: SimulateScene) -> Iterator[Finding]:
    """Local models can be found, those too that a combination of the grid puts in."""
    seen: list[ModelSpec] = []
    for alias, ref in scene.spec.simulation.models.items():
        for finding in _missing(ref, seen):
            path = f"simulation.models.{alias}.backend.{finding.problem.path}"
            yield replace(finding, problem=replace(finding.problem, path=path))
    for cell in _combinations(scene.spec):
        for alias, ref in cell.spec.models.items():
            for finding in _missing(ref, seen):
                what = f"models.{alias}.backend.{finding.problem.path} of {cell.point}: {finding.problem.what}"
                yield replace(finding, problem=replace(finding.problem, what=what, path="grid"))


def _missing(ref: ModelRef, seen: list[ModelSpec]) -> Iterator[Finding]:
    """What is missing of a local model that was not looked at before."""
    if isinstance(ref.backend, LocalBackendSpec) and ref.backend.model not in seen:
        seen.append(ref.backend.model)
        yield from checks_model.missing(ref.backend.model)


def _combinations(spec: SimulateSpec) -> list[Cell]:
    """The simulations of a grid; none where `simulations` says why it cannot be played."""
    try:
        return cells(spec) if spec.grid else []
    except (ConfigError, SimulationError):
        return []


def _text(value: object) -> str | None:
    return None if value is None else str(value)


SIMULATE_CHECKS: tuple[Check, ...] = (
    Check("simulations", simulations, "job"),
    Check("model", models, "machine"),
    Check("workers", checks_cluster.capacity, "job"),
    Check("storage", checks_machine.storage, "machine"),
    Check("gpu-here", checks_machine.gpu, "machine"),
    Check("tracking", checks_tracking.server, "machine"),
)
"""The checks of a job of simulations."""
