"""Trials that do nothing. Their processes import this module, and so nothing that only measuring needs, as torch."""

from __future__ import annotations

from collections.abc import Sequence

from steerline.config.sweep_points import Trial
from steerline.sweeps.kinds import SharedTrials
from steerline.sweeps.ledger import Found

SCALE = "objective.steering.boost.scale"


class Trivial(SharedTrials):
    """Trials that do nothing."""

    together = 32

    def evaluate(self, trials: Sequence[Trial]) -> list[Found]:
        return [Found("finished", metrics={"heldout/loss_ce": float(trial.point.values[SCALE])}) for trial in trials]
