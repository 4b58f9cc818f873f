"""Which point is chosen, and what may be said about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Trial
from steerline.sweeps.board import Board
from steerline.sweeps.ledger import Found, Ledger
from steerline.sweeps.report import best_config, table
from steerline.sweeps.selection import Selection, select
from tests.unit.sweeps.sweeps import SCALE, sweep, sweep_config

ITEMS = 200
NO_BOOST = {"objective.steering.boost": None}
CONTROL = {"objective.steering.boost.control": "random_keys"}


def judged(**changes: object) -> SweepSpec:
    """A sweep that judges items."""
    config = sweep_config(
        baseline=NO_BOOST,
        controls={"random": CONTROL},
        seeds=[0, 1],
        metrics=[{"name": "eval/sums/accuracy", "goal": "max"}],
        **changes,
    )
    dataset = {
        "source": {"kind": "synthetic", "generator": "arithmetic", "size": 4, "seed": 0},
        "format": {"kind": "task", "task": "arithmetic"},
    }
    config["base"]["evaluation"]["tasks"] = [{"name": "sums", "dataset": dataset}]
    return SweepSpec.model_validate(config)


def after(spec: SweepSpec, accuracy: Callable[[Trial], float], folder: Path) -> tuple[Board, Selection]:
    """The sweep after each trial has had so many of its items right, the same ones first."""
    board = Board(spec, Ledger(folder))
    while taken := board.take():
        right = np.arange(ITEMS) < accuracy(taken[0]) * ITEMS
        found = Found("finished", {"eval/sums/accuracy": float(right.mean())}, {"sums": right.astype(float).tolist()})
        board.put([(taken[0], found)])
    return board, select(board)


def test_a_clear_gain_over_baseline_and_placebo_wins(tmp_path: Path) -> None:
    _, chosen = after(judged(), lambda t: 0.8 if t.point.values.get(SCALE) == 2.0 else 0.5, tmp_path)
    assert chosen.wins, chosen.verdict
    assert chosen.best is not None
    assert chosen.best.point.values == {SCALE: 2.0}
    assert "beats the baseline and 1 placebos" in chosen.verdict


def test_a_gain_that_the_placebo_has_too_does_not_win(tmp_path: Path) -> None:
    _, chosen = after(judged(), lambda t: 0.5 if t.point.role == "baseline" else 0.8, tmp_path)
    assert not chosen.wins
    assert "but not the placebo random" in chosen.verdict


def test_no_difference_is_reported_as_nothing_beats_the_baseline(tmp_path: Path) -> None:
    board, chosen = after(judged(), lambda _: 0.5, tmp_path)
    assert not chosen.wins
    assert "nothing beats the baseline" in chosen.verdict
    assert "nothing beats the baseline" in table(board, chosen)


def test_the_p_values_are_corrected_for_the_number_of_points_tried(tmp_path: Path) -> None:
    spec = judged(space={SCALE: {"kind": "grid", "values": [float(n) for n in range(1, 21)]}})
    _, chosen = after(spec, lambda t: 0.53 if t.point.values.get(SCALE) == 7.0 else 0.5, tmp_path)
    assert chosen.best is not None
    test = chosen.best.against_baseline
    assert test is not None
    assert test.p_value < 0.05
    assert test.p_holm > 0.05
    assert not chosen.wins


def test_without_items_the_runs_of_the_same_seed_are_paired(tmp_path: Path) -> None:
    spec = sweep(baseline=NO_BOOST, seeds=(0, 1, 2))
    board = Board(spec, Ledger(tmp_path))
    while taken := board.take():
        (trial,) = taken
        gain = 0.0 if trial.point.role == "baseline" else trial.point.values[SCALE]
        value = 10.0 * trial.seed - gain * (1 + 0.01 * trial.seed)
        board.put([(trial, Found("finished", {"heldout/loss_ce": value}))])
    chosen = select(board)
    assert chosen.best is not None
    test = chosen.best.against_baseline
    assert test is not None
    assert test.basis == "seeds"
    # Seeds differ by far more than points; only pairs show the gain.
    assert test.difference.mean == pytest.approx(-3.03)
    assert chosen.wins


def test_the_front_holds_the_points_that_no_other_beats_in_both(tmp_path: Path) -> None:
    spec = sweep(
        space={SCALE: {"kind": "grid", "values": [1.0, 2.0, 3.0, 4.0]}},
        metrics=[{"name": "heldout/loss_ce", "goal": "min"}, {"name": "train/loss_ce", "goal": "min"}],
    )
    board = Board(spec, Ledger(tmp_path))
    outcomes = {1.0: (1.0, 4.0), 2.0: (2.0, 2.0), 3.0: (3.0, 3.0), 4.0: (4.0, 1.0)}
    while taken := board.take():
        first, second = outcomes[taken[0].point.values[SCALE]]
        board.put([(taken[0], Found("finished", {"heldout/loss_ce": first, "train/loss_ce": second}))])
    assert [point.values[SCALE] for point in select(board).front] == [1.0, 2.0, 4.0]


def test_the_best_config_names_the_run_that_the_sweep_made(tmp_path: Path) -> None:
    from steerline.config.load import load
    from steerline.config.render import run_name

    board, chosen = after(judged(), lambda t: 0.8 if t.point.values.get(SCALE) == 2.0 else 0.5, tmp_path)
    assert chosen.best is not None
    file = tmp_path / "best.yaml"
    file.write_text(best_config(board, chosen.best))
    assert run_name(load(file).spec) == board.trials[chosen.best.point.key][0].name
