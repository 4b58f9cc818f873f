"""When to end a run, and which of its steps was the best: counted at each held-out look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from steerline.config.training import EarlyStoppingSpec
from steerline.errors import TrainingError


@dataclass(frozen=True)
class EarlyStopping:
    """Where the count stands. A value: each look gives the next one, so that a checkpoint can hold it.

    Args:
        spec: metric, direction, patience.
        best_step: step of the best look so far; none before the first.
        best_value: the metric there.
        waited: looks since then.
    """

    spec: EarlyStoppingSpec
    best_step: int | None = None
    best_value: float | None = None
    waited: int = 0

    @classmethod
    def resumed(cls, spec: EarlyStoppingSpec, state: Mapping[str, Any] | None) -> EarlyStopping:
        """The count that `state` recorded; a fresh one for none."""
        return cls(spec) if state is None else cls(spec, state["best_step"], state["best_value"], state["waited"])

    def state(self) -> dict[str, Any]:
        """The count as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "spec"}

    def after(self, step: int, metrics: Mapping[str, float]) -> EarlyStopping:
        """The count after a look at `step`. A value that is not a number is no gain.

        Raises:
            TrainingError: as `check`.
        """
        self.check(metrics)
        value = metrics[self.spec.metric]
        if self._is_gain(value):
            return EarlyStopping(self.spec, step, value, 0)
        return EarlyStopping(self.spec, self.best_step, self.best_value, self.waited + 1)

    def check(self, metrics: Mapping[str, float]) -> None:
        """Look whether the metric is there at all.

        Raises:
            TrainingError: it is not measured.
        """
        if self.spec.metric not in metrics:
            raise TrainingError(
                "early stopping follows a metric that this run does not measure",
                where="training.early_stopping.metric",
                got=self.spec.metric,
                expected=", ".join(sorted(metrics)),
                fix="name one of these",
            )

    @property
    def has_ended(self) -> bool:
        """Whether patience has run out."""
        return self.waited >= self.spec.patience

    @property
    def reason(self) -> str:
        """Why the run ended, for people."""
        best = "no number was seen" if self.best_value is None else f"after {self.best_value:.6g}"
        return f"{self.spec.metric} showed no gain for {self.waited} looks, {best}"

    def _is_gain(self, value: float) -> bool:
        if math.isnan(value) or self.best_value is None:
            return not math.isnan(value)
        gain = value - self.best_value if self.spec.mode == "max" else self.best_value - value
        return gain > self.spec.min_delta
