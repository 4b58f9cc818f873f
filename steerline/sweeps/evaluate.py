"""Evaluations as trials: many steerings of one loaded model in the same batches."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from steerline.config.evaluate import EvaluateSpec
from steerline.config.render import identity
from steerline.config.sweep_points import Trial
from steerline.evaluation.points import PointResult, evaluate_points, load_for
from steerline.sweeps.kinds import SharedTrials
from steerline.sweeps.ledger import Found


class EvaluateTrials(SharedTrials):
    """Evaluations as trials. Those that differ in steering alone share a model, and the batches of one call."""

    together = 32

    def __init__(self) -> None:
        self._loaded: tuple[str, Any] | None = None

    def evaluate(self, trials: Sequence[Trial]) -> list[Found]:
        """Judge each trial's steering."""
        import torch

        found: dict[str, Found] = {}
        groups: dict[str, list[tuple[str, EvaluateSpec]]] = {}
        for trial in trials:
            assert isinstance(trial.spec, EvaluateSpec)
            groups.setdefault(_apart_from_steering(trial.spec), []).append((trial.name, trial.spec))
        for key, members in groups.items():
            began = time.monotonic()
            spec = members[0][1]
            torch.set_num_threads(max(1, int(spec.cluster.cpus_per_worker)))
            if self._loaded is None or self._loaded[0] != key:
                self._loaded = (key, load_for(spec))
            results = evaluate_points(spec, [one.steering for _, one in members], loaded=self._loaded[1])
            seconds = (time.monotonic() - began) / len(members)
            found |= {name: _found(result, seconds) for (name, _), result in zip(members, results, strict=True)}
        return [found[trial.name] for trial in trials]


def _apart_from_steering(spec: EvaluateSpec) -> str:
    kept = {name: value for name, value in identity(spec).items() if name not in ("steering", "strengths")}
    return json.dumps(kept, sort_keys=True)


def _found(result: PointResult, seconds: float) -> Found:
    scores = {task.name: task.correct.tolist() for task in result.result.tasks}
    return Found("finished", metrics=dict(result.metrics), scores=scores, seconds=seconds)
