"""Residual-scale fits as trials: each a fit of its own on the frozen model, in the process of the trial."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from steerline.config.residual_fit import ResidualFitSpec
from steerline.config.sweep_points import Trial
from steerline.home import storage_folder
from steerline.sweeps.kinds import SharedTrials
from steerline.sweeps.ledger import Found
from steerline.training.job import Outcome
from steerline.training.residual_fit_job import fit_and_judge


class ResidualFitTrials(SharedTrials):
    """Residual-scale fits as trials. All seeds of a fit by hand share a batch; here each seed is a trial."""

    together = 1

    def evaluate(self, trials: Sequence[Trial]) -> list[Found]:
        """Fit and judge, or take what an earlier fit of the same config has left."""
        return [self._fit(trial) for trial in trials]

    def _fit(self, trial: Trial) -> Found:
        import torch

        assert isinstance(trial.spec, ResidualFitSpec)
        began, cluster = time.monotonic(), trial.spec.cluster
        torch.set_num_threads(max(1, int(cluster.cpus_per_worker)))
        folder = storage_folder(cluster.storage_path) / trial.name
        folder.mkdir(parents=True, exist_ok=True)
        outcome = Outcome.load(folder)
        if outcome is None or outcome.state != "finished":
            outcome = fit_and_judge(trial.spec, folder, _say)
            outcome.save(folder)
        return Found("finished", metrics=outcome.metrics, seconds=time.monotonic() - began)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
