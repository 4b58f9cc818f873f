from __future__ import annotations

import numpy as np
import pytest

from steerline.analysis.infosteer.history import Curve, EntropyHistory
from steerline.errors import EvaluationError


def test_a_curve_is_sorted_and_keeps_the_last_value_of_a_step() -> None:
    curve = Curve.of([(2, 0.2), (1, 0.1), (2, 0.3)])
    assert curve.steps.tolist() == [1, 2]
    assert curve.values.tolist() == [0.1, 0.3]


def test_smoothing_keeps_a_constant_and_does_not_lag_behind_a_trend() -> None:
    steps = range(100)
    assert Curve.of((s, 5.0) for s in steps).smoothed(4).values == pytest.approx(np.full(100, 5.0))
    line = Curve.of((s, float(s)) for s in steps)
    assert line.smoothed(4).values[20:80] == pytest.approx(line.values[20:80])
    noisy = Curve.of((s, float(s % 2)) for s in steps)
    assert noisy.smoothed(4).values == pytest.approx(np.full(100, 0.5), abs=0.15)
    assert len(Curve.of([(0, 1.0)]).smoothed(3)) == 1


def test_entropy_history_reads_the_metrics_of_every_layer_by_number() -> None:
    metrics = {f"train/key_entropy/layer_{i:02d}": [(1, float(i)), (2, i + 0.5)] for i in (10, 2)}
    history = EntropyHistory.from_metrics({**metrics, "train/loss": [(1, 9.0)]})
    assert history.layers == (2, 10)
    assert history.entropy.tolist() == [[2.0, 10.0], [2.5, 10.5]]
    assert history.effective_memories[0, 0] == pytest.approx(np.exp(2.0))


def test_steps_that_a_layer_lacks_are_left_out() -> None:
    metrics = {"heldout/key_entropy/layer_00": [(1, 1.0), (2, 2.0)], "heldout/key_entropy/layer_01": [(2, 3.0)]}
    history = EntropyHistory.from_metrics(metrics, prefix="heldout/key_entropy/")
    assert history.steps.tolist() == [2]
    assert history.entropy.tolist() == [[2.0, 3.0]]


def test_runs_without_entropies_are_refused() -> None:
    with pytest.raises(EvaluationError, match="no key entropies"):
        EntropyHistory.from_metrics({"train/loss": [(1, 1.0)]})
    with pytest.raises(EvaluationError, match="no step"):
        EntropyHistory.from_metrics(
            {"train/key_entropy/layer_00": [(1, 1.0)], "train/key_entropy/layer_01": [(2, 1.0)]}
        )
