"""What a check is, what it looks at and what it finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

from steerline.config.cluster import ClusterSpec
from steerline.config.data import DatasetSpec
from steerline.config.finetune import FinetuneSpec
from steerline.config.model import ModelSpec
from steerline.config.tracking import TrackingSpec
from steerline.errors import PreflightError, Problem
from steerline.orchestration.preflight.model_facts import ModelFacts
from steerline.orchestration.preflight.resources import ClusterResources

PAGE = "docs/errors/preflight.md"


@dataclass(frozen=True)
class Finding:
    """Something a check found."""

    problem: Problem
    fatal: bool
    """Whether the job cannot run, or would not be what it says; otherwise it is a warning."""
    check: str = ""
    """Id of the check."""


class ModelJob(Protocol):
    """What jobs with a model have in common."""

    @property
    def model(self) -> ModelSpec:
        """The model."""

    @property
    def tracking(self) -> TrackingSpec:
        """Where it is recorded."""

    @property
    def cluster(self) -> ClusterSpec:
        """Where it runs."""


@dataclass(frozen=True)
class ModelScene(ABC):
    """What checks of any job with a model look at."""

    spec: ModelJob
    cluster: ClusterResources | None = None
    """The cluster's nodes; None when they are not known."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where each leaf of the config was written."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The environment that the job will have."""

    @cached_property
    def model(self) -> ModelFacts:
        """What can be told about the model without loading it."""
        return ModelFacts.of(self.spec.model)

    @abstractmethod
    def datasets(self) -> Iterator[tuple[str, DatasetSpec]]:
        """Every data set that the job reads, and its place in the config."""


@dataclass(frozen=True)
class Scene(ModelScene):
    """What the checks of a fine-tuning job look at."""

    spec: FinetuneSpec

    def datasets(self) -> Iterator[tuple[str, DatasetSpec]]:
        """Those that it learns from, and those that it is judged by."""
        data, tasks = self.spec.data, self.spec.evaluation.tasks
        yield from ((f"data.train.{index}", dataset) for index, dataset in enumerate(data.train))
        yield from ((f"data.heldout.{index}", dataset) for index, dataset in enumerate(data.heldout))
        yield from ((f"evaluation.tasks.{index}.dataset", task.dataset) for index, task in enumerate(tasks))


@dataclass(frozen=True)
class Check:
    """One thing that is looked at before a job runs."""

    id: str
    """Its name, and its heading on the page of preflight errors."""
    run: Callable[[Any], Iterable[Finding]]
    """Takes the scene of the kinds of job that it is for."""
    about: Literal["job", "machine"]
    """What its answer holds for: the job itself, or the machine that asks. What is asked about this machine is
    only a warning when the job runs on another one, where it is asked again."""

    def findings(self, scene: ModelScene, *, elsewhere: bool) -> Iterator[Finding]:
        """What it finds, with its id, its page and the place in the config filled in."""
        for finding in self.run(scene):
            where = scene.provenance.get(finding.problem.path or "")
            problem = replace(finding.problem, where=finding.problem.where or where, see=f"{PAGE}#{self.id}")
            fatal = finding.fatal and not (elsewhere and self.about == "machine")
            yield Finding(problem, fatal, self.id)


@dataclass(frozen=True)
class Report:
    """All that preflight found."""

    problems: tuple[Finding, ...]
    """What must be mended before the job can run."""
    warnings: tuple[Finding, ...]
    """What is worth a look."""

    def raise_for_problems(self, name: str) -> None:
        """Do nothing if the job can run.

        Args:
            name: what the message calls the job.

        Raises:
            PreflightError: with every problem.
        """
        if self.problems:
            count = "1 thing stands" if len(self.problems) == 1 else f"{len(self.problems)} things stand"
            problems = [finding.problem for finding in self.problems]
            raise PreflightError(f"{count} in the way of {name}", problems=problems)


def failure(what: str, **parts: str | None) -> Finding:
    """A finding that stops the job; the parts are those of `Problem`."""
    return Finding(Problem(what, **parts), fatal=True)


def warning(what: str, **parts: str | None) -> Finding:
    """A finding that does not."""
    return Finding(Problem(what, **parts), fatal=False)


def gib(num_bytes: float) -> str:
    """A size for people."""
    return f"{num_bytes / 2**30:.1f} GiB"
