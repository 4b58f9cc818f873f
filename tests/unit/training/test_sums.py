"""Sums of micro-batches become the step's means, and history survives restarts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from steerline.training.base_loss import LossTerm
from steerline.training.history import History, read_history
from steerline.training.objective import ObjectiveOutput
from steerline.training.sums import StepSums
from steerline.training.workers import Workers


def term(total: float, count: float) -> LossTerm:
    return LossTerm(torch.tensor(total), torch.tensor(count))


def output(total: float, ce: LossTerm, **layers: LossTerm) -> ObjectiveOutput:
    measured = {int(name.removeprefix("layer")): value for name, value in layers.items()}
    return ObjectiveOutput(torch.tensor(total), {"ce": ce}, measured)


def test_means_weigh_tokens_not_micro_batches() -> None:
    sums = StepSums([output(0.5, term(9.0, 3)), output(1.5, term(1.0, 1))], Workers())
    assert sums.loss == 2.0
    assert sums.terms == {"ce": 2.5}


def test_layers_measured_in_some_micro_batches_only_are_means_over_those() -> None:
    sums = StepSums([output(0, term(1, 1)), output(0, term(1, 1), layer3=term(6.0, 2))], Workers())
    assert sums.layer_entropy == {3: 3.0}
    values = sums.metrics("train")
    assert values["train/key_entropy/layer_03"] == 3.0
    assert values["train/effective_memories/layer_03"] == pytest.approx(math.e**3)
    assert values["train/loss_ce"] == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_bad_micro_batch_makes_the_step_bad(bad: float) -> None:
    good = output(1.0, term(1.0, 1))
    assert StepSums([good], Workers()).is_finite
    assert not StepSums([good, output(bad, term(bad, 1))], Workers()).is_finite


def test_no_tokens_are_no_division_by_zero() -> None:
    assert StepSums([output(0.0, term(0.0, 0))], Workers()).terms == {"ce": 0.0}


def test_the_last_record_of_a_step_counts_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.append({"a": 1.0}, 2)
    history.append({"a": 5.0, "b": 0.5}, 1)
    history.append({"a": 3.0}, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "val')
    assert read_history(tmp_path) == {"a": {1: 5.0, 2: 3.0}, "b": {1: 0.5}}
    assert list(read_history(tmp_path)["a"]) == [1, 2]


def test_no_history_is_empty(tmp_path: Path) -> None:
    assert read_history(tmp_path) == {}
