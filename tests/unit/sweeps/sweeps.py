"""Small sweeps, and trials that take no time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steerline.config.finetune import FinetuneSpec
from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Trial
from steerline.sweeps.kinds import Along, Ended, Running, SharedTrials, StopSign, WholeTrials
from steerline.sweeps.ledger import Found
from steerline.tracking.references import RunRef

SCALE = "objective.steering.boost.scale"
FRACTION = "objective.steering.boost.fraction"
BOOST = {"strength": 1.0, "select": "magnitude", "mean": "abs", "keep_sign": True}


def base_config() -> dict[str, Any]:
    """A job of few seconds, written out here: trials import this module, and need no training library."""

    def arithmetic(size: int, seed: int) -> dict[str, Any]:
        source = {"kind": "synthetic", "generator": "arithmetic", "size": size, "seed": seed}
        return {"source": source, "format": {"kind": "task", "task": "arithmetic"}}

    return {
        "kind": "finetune",
        "name": "small-base",
        "model": {"source": {"kind": "random", "architecture": "gpt2"}},
        "data": {"train": [arithmetic(40, 0)], "heldout": [arithmetic(8, 1)], "max_length_tokens": 256},
        "objective": {"steering": {"boost": BOOST}},
        "training": {"num_steps": 6, "global_batch_size": 4, "micro_batch_size": 2, "precision": "fp32"},
        "evaluation": {},
    }


def sweep_config(**changes: Any) -> dict[str, Any]:
    """A sweep over the boost of a tiny job; keyword arguments replace its keys."""
    return {
        "kind": "sweep",
        "name": "small",
        "base": base_config(),
        "space": {SCALE: {"kind": "grid", "values": [1.0, 2.0, 3.0]}},
        "metrics": [{"name": "heldout/loss_ce", "goal": "min"}],
        **changes,
    }


def sweep(**changes: Any) -> SweepSpec:
    """The same, read."""
    return SweepSpec.model_validate(sweep_config(**changes))


def score(trial: Trial) -> float:
    """A loss that is least at scale 2, a little higher without the boost, and moves with the seed alike everywhere."""
    assert isinstance(trial.spec, FinetuneSpec)
    boost = trial.spec.objective.steering.boost
    return (0.5 if boost is None else (boost.scale - 2.0) ** 2 + boost.fraction) + 0.01 * trial.seed


class LightTrials(SharedTrials):
    """Trials that only compute `score`."""

    together = 32

    def evaluate(self, trials: Sequence[Trial]) -> list[Found]:
        return [Found("finished", metrics={"heldout/loss_ce": score(trial)}) for trial in trials]


class Steps:
    """A trial that comes to its score in equal steps."""

    def __init__(self, trial: Trial, steps: int) -> None:
        self._trial, self._steps, self._step = trial, steps, 0

    def next(self) -> Along | Ended:
        self._step += 1
        value = score(self._trial)
        if self._step > self._steps:
            return Ended(Found("finished", metrics={"heldout/loss_ce": value}))
        return Along(self._step, {"heldout/loss_ce": value + 1 / self._step})

    def stop(self) -> None:
        """Nothing is left behind."""


class SteppedTrials(WholeTrials):
    """Trials that report on their way."""

    steps = 9

    def start(self, trial: Trial, sweep: SweepSpec, run: RunRef | None, stop: StopSign) -> Running:
        return Steps(trial, self.steps)
