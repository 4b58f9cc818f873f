"""When a run ends for want of gain, and which step it holds to be the best."""

from __future__ import annotations

import math
from typing import Any

import pytest

from steerline.config.training import EarlyStoppingSpec, TrainingSpec
from steerline.data.sampler import GlobalSampler
from steerline.errors import TrainingError
from steerline.training.early_stopping import EarlyStopping
from steerline.training.loop import Course


def after(values: list[float], **spec: Any) -> EarlyStopping:
    settings = {"metric": "heldout/accuracy", "mode": "max", "patience": 2, **spec}
    count = EarlyStopping(EarlyStoppingSpec(**settings))
    for look, value in enumerate(values, start=1):
        count = count.after(10 * look, {settings["metric"]: value})
    return count


def test_it_ends_after_so_many_looks_without_a_gain_and_names_the_best_step() -> None:
    assert not after([0.5, 0.7, 0.6]).has_ended
    ended = after([0.5, 0.7, 0.6, 0.7])
    assert ended.has_ended
    assert (ended.best_step, ended.best_value, ended.waited) == (20, 0.7, 2)
    assert "no gain for 2 looks" in ended.reason


def test_a_gain_starts_the_count_again() -> None:
    assert after([0.5, 0.4, 0.6, 0.5]).waited == 1


def test_a_gain_must_exceed_min_delta() -> None:
    assert after([0.5, 0.55], min_delta=0.1).best_step == 10
    assert after([0.5, 0.65], min_delta=0.1).best_step == 20


def test_a_loss_is_better_when_smaller() -> None:
    assert after([2.0, 1.0, 1.5], metric="heldout/loss", mode="min").best_step == 20


def test_a_value_that_is_no_number_is_never_a_gain() -> None:
    assert after([math.nan, 0.3]).best_step == 20
    assert after([math.nan, math.nan]).has_ended
    assert after([math.nan, math.nan]).best_step is None


def test_the_count_survives_its_json() -> None:
    count = after([0.5, 0.7, 0.6])
    assert EarlyStopping.resumed(count.spec, count.state()) == count


def test_a_metric_that_is_not_measured_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(TrainingError, match="does not measure"):
        EarlyStopping(EarlyStoppingSpec(metric="heldout/f1")).after(1, {"heldout/loss": 1.0})


def looks(num_rows: int, batch: int, steps: int, **timing: Any) -> list[int]:
    course = Course((), (), GlobalSampler(num_rows, batch, 0), steps, 0, 0)
    spec = TrainingSpec(num_steps=steps, global_batch_size=batch, micro_batch_size=1, **timing)
    return [done for done in range(1, steps + 1) if course.looks_after(done, spec)]


def test_looks_come_at_the_end_of_each_pass_and_after_the_last_step() -> None:
    assert looks(10, 4, 11, heldout_every_epochs=1) == [3, 5, 8, 10, 11]
    assert looks(8, 4, 7, heldout_every_epochs=2) == [4, 7]
    assert looks(8, 4, 4, heldout_every_epochs=0.5) == [1, 2, 3, 4]
    assert looks(8, 4, 5, heldout_every_steps=2) == [2, 4, 5]
    assert looks(8, 4, 5) == [5]
