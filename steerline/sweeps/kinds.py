"""How the trials of a kind of job are carried out: what a sweep asks of it, and which kinds there are."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from steerline.config.sweep import BaseSpec, SweepSpec
from steerline.config.sweep_points import Trial
from steerline.sweeps.ledger import Found
from steerline.tracking.references import RunRef

_KINDS = {
    "finetune": ("steerline.sweeps.finetune", "FinetuneTrials"),
    "evaluate": ("steerline.sweeps.evaluate", "EvaluateTrials"),
    "simulate": ("steerline.sweeps.simulate", "SimulateTrials"),
    "residual_scale": ("steerline.sweeps.residual_fit", "ResidualFitTrials"),
}
"""Kind of the base config to where its trials are; each is imported when it is used, for its libraries are its own."""


@dataclass(frozen=True)
class Along:
    """What a trial has come to on its way.

    Args:
        step: optimiser steps done.
        metrics: what was measured there.
    """

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Ended:
    """A trial has ended.

    Args:
        found: what came out; none where it was asked to stop, so that another attempt goes on with it.
    """

    found: Found | None


@dataclass(frozen=True)
class StopSign:
    """Tells trials when to save and end. Travels to their processes, whichever node they are on.

    Args:
        at: seconds since 1970 from which on it is up; none sets no time.
        request: a file on storage that all nodes share; it is up while there is one.
    """

    at: float | None
    request: Path

    def is_up(self) -> bool:
        """Whether to end now."""
        return (self.at is not None and time.time() > self.at) or self.request.exists()


class Running(Protocol):
    """A trial that runs."""

    def next(self) -> Along | Ended:
        """Wait for what happens next.

        Raises:
            Exception: it broke in a way that another attempt may not meet.
        """

    def stop(self) -> None:
        """Have it save and end, and wait until all that it used is free."""


class WholeTrials(ABC):
    """A kind whose trials are jobs of their own, which train. Travels to the workers, so it is small."""

    @abstractmethod
    def start(self, trial: Trial, sweep: SweepSpec, run: RunRef | None, stop: StopSign) -> Running:
        """Begin a trial, or go on with it.

        Args:
            trial: the trial.
            sweep: the sweep, whose metrics are followed.
            run: the sweep's run, under which MLflow shows it; none records nowhere.
            stop: when it saves and ends.
        """


class SharedTrials(ABC):
    """A kind whose trials share a process, and what it keeps from one to the next, such as a loaded model."""

    together: int = 1
    """How many trials are carried out in one call."""

    @abstractmethod
    def evaluate(self, trials: Sequence[Trial]) -> list[Found]:
        """Carry trials out, in order.

        Raises:
            SteerlineError: one of them cannot be carried out.
        """


TrialKind = WholeTrials | SharedTrials


def kind_of(base: BaseSpec) -> TrialKind:
    """The kind of a sweep's trials."""
    module, name = _KINDS[base.kind]
    kind: TrialKind = getattr(import_module(module), name)()
    return kind
