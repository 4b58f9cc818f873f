"""What is looked at before a sweep runs: its points, its metrics, its budget, and the base job that they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

from steerline.config.simulate import SimulateSpec
from steerline.config.sweep import BaseSpec, SweepSpec
from steerline.config.sweep_metrics import Recorded, recorded, training_tokens
from steerline.config.sweep_points import BASELINE, Point, samples, trial
from steerline.errors import ConfigError, Problem, SimulationError
from steerline.orchestration.preflight.core import PAGE, Finding, failure
from steerline.simulation.metric_names import metric_names

# Points whose jobs are looked at one by one; the others differ from these in the same values.
_MOST_POINTS = 24


@dataclass(frozen=True)
class SweepScene:
    """What the checks of a sweep look at."""

    spec: SweepSpec
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where each leaf of the config was written."""


Look = Callable[[BaseSpec, bool], Iterable[Finding]]
"""What a job's own checks find about it; the flag leaves out those that ask about the machine."""


def sweep_findings(scene: SweepScene, look: Look) -> Iterator[Finding]:
    """Everything that is found about a sweep.

    Args:
        scene: the sweep.
        look: looks at a job of the base's kind.
    """
    for check, find in SWEEP_CHECKS.items():
        for finding in find(scene):
            where = scene.provenance.get(finding.problem.path or "")
            problem = replace(finding.problem, where=finding.problem.where or where, see=f"{PAGE}#{check}")
            yield Finding(problem, finding.fatal, check)
    yield from _of_jobs(scene, look)


def points(scene: SweepScene) -> Iterator[Finding]:
    """Every point is a config that could have been written by hand."""
    for point in (*_named(scene.spec), *samples(scene.spec)):
        try:
            trial(scene.spec, point, scene.spec.seeds[0])
        except ConfigError as error:
            for problem in error.problems:
                what = f"{_role(point)} is no valid config: {problem.path}: {problem.what}"
                yield failure(what, path=_path(point), got=problem.got, expected=problem.expected, fix=problem.fix)


def _named(sweep: SweepSpec) -> list[Point]:
    baseline = [BASELINE] if sweep.baseline is not None else []
    # A control lies on top of a point; by itself it shows whether its paths exist.
    return [*baseline, *(Point({}, role="control", name=name) for name in sweep.controls)]


def _role(point: Point) -> str:
    return f"the point {point.label}" if point.role == "point" else f"the {point.role} {point.name}".rstrip()


def _path(point: Point) -> str:
    named: dict[Literal["baseline", "point", "control"], str] = {"baseline": "baseline", "point": "space"}
    return named.get(point.role, f"controls.{point.name}")


def metrics(scene: SweepScene) -> Iterator[Finding]:
    """Every metric that is judged by is one that the trials record."""
    sweep = scene.spec
    known = recorded(sweep.base) or _simulated(sweep)
    if known is None:
        return
    for index, metric in enumerate(sweep.metrics):
        if metric.name not in known.final:
            yield failure(
                f"no trial records the metric `{metric.name}`",
                path=f"metrics.{index}.name",
                got=metric.name,
                expected=" | ".join(sorted(known.final)),
                fix="name one of these, or have the base measure it: `data.heldout`, `evaluation.tasks`",
            )
    if sweep.scheduler.kind not in ("asha", "median"):
        return
    metric = sweep.scheduler.metric or sweep.metrics[0]
    if metric.name not in known.along:
        yield failure(
            f"`{sweep.scheduler.kind}` compares trials while they run, and `{metric.name}` is known at their end alone",
            path="scheduler.metric",
            got=metric.name,
            expected=" | ".join(sorted(known.along)) or "a job that trains",
            fix="set `scheduler.metric`, e.g. `{name: heldout/loss_ce, goal: min}`, or use `kind: fifo`",
        )


def _simulated(sweep: SweepSpec) -> Recorded | None:
    """The metrics of simulations: those of a short one whose agents follow a script. None where it cannot be played,
    which the simulations' own check says."""
    assert isinstance(sweep.base, SimulateSpec)
    try:
        base = sweep.base
        names = metric_names(base.simulation, against_vote=base.baseline == "vote", without=base.without or ())
        return Recorded(names, frozenset())
    except SimulationError:
        return None


def budget(scene: SweepScene) -> Iterator[Finding]:
    """At least one point fits, with all its seeds, the baseline and the controls."""
    sweep, limits, seeds = scene.spec, scene.spec.budget, len(scene.spec.seeds)
    needed = (1 + (sweep.baseline is not None) + len(sweep.controls)) * seeds
    made_of = f"1 point, {int(sweep.baseline is not None)} baseline, {len(sweep.controls)} controls, {seeds} seeds each"
    if limits.trials is not None and limits.trials < needed:
        yield failure(
            "the budget leaves room for no point",
            path="budget.trials",
            got=f"{limits.trials} trials",
            expected=f"at least {needed}: {made_of}",
            fix=f"set `budget.trials: {needed}` or more, or fewer `seeds`",
        )
    if limits.tokens is None:
        return
    each = training_tokens(sweep.base)
    if each is None:
        yield failure(
            "a budget of tokens needs runs whose length is known",
            path="budget.tokens",
            got="no number of training steps",
            fix="set `base.training.num_steps`, or use `budget.trials`",
        )
    elif limits.tokens < each * needed:
        yield failure(
            "the budget leaves room for no point",
            path="budget.tokens",
            got=f"{limits.tokens} tokens",
            expected=f"at least {each * needed}: {each} for a trial; {made_of}",
            fix="raise it, or shorten `base.training.num_steps`",
        )


SWEEP_CHECKS: dict[str, Callable[[SweepScene], Iterator[Finding]]] = {
    "points": points,
    "metrics": metrics,
    "budget": budget,
}
"""The checks of a sweep itself, by id."""


def _of_jobs(scene: SweepScene, look: Look) -> Iterator[Finding]:
    """What is found about the base job, and about the jobs of some points; each thing once."""
    seen: set[tuple[str, str]] = set()
    for spec, label in _jobs(scene):
        for finding in look(spec, bool(label)):
            mark = (finding.check, finding.problem.what)
            if mark not in seen:
                seen.add(mark)
                yield _placed(finding, label)


def _jobs(scene: SweepScene) -> Iterator[tuple[BaseSpec, str]]:
    yield scene.spec.base, ""
    for point in islice(samples(scene.spec), _MOST_POINTS):
        try:
            yield trial(scene.spec, point, scene.spec.seeds[0]).spec, point.label
        except ConfigError:
            continue  # said above


def _placed(finding: Finding, label: str) -> Finding:
    problem: Problem = finding.problem
    path = None if problem.path is None else f"base.{problem.path}"
    what = f"at the point {label}: {problem.what}" if label else problem.what
    return replace(finding, problem=replace(problem, what=what, path=path))
