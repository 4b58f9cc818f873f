"""A sweep of trials that take a moment each: `python -m tests.integration.sweep_process FILE SEEN`.

Each trial writes a line to the file SEEN when it ends: its name, and the cluster that it ran on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ray

from steerline.config.load import load
from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Trial
from steerline.sweeps.kinds import SharedTrials
from steerline.sweeps.ledger import Found
from steerline.sweeps.sweep import Sweep
from steerline.training.ray_trainer import cluster_nodes
from tests.unit.sweeps.sweeps import score


class SlowTrials(SharedTrials):
    """Trials that take a moment and leave a line behind."""

    def __init__(self, seen: Path) -> None:
        self._seen = seen

    def evaluate(self, trials: Sequence[Trial]) -> list[Found]:
        (trial,) = trials
        time.sleep(0.3)
        with self._seen.open("a") as file:
            file.write(f"{trial.name} {ray.get_runtime_context().gcs_address}\n")
        return [Found("finished", metrics={"heldout/loss_ce": score(trial)})]


if __name__ == "__main__":
    loaded = load(Path(sys.argv[1])).of(SweepSpec)
    cluster_nodes()
    sys.exit(Sweep(loaded, SlowTrials(Path(sys.argv[2]))).run())
