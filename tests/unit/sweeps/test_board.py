"""What the board hands out, in which order, and when it ends."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from steerline.config.render import run_name
from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Trial
from steerline.sweeps import ledger
from steerline.sweeps.board import Board
from steerline.sweeps.ledger import Found, Ledger
from tests.unit.sweeps.sweeps import FRACTION, SCALE, score, sweep

CONTROL = {"objective.steering.boost.control": "random_keys"}
NO_BOOST = {"objective.steering.boost": None}


def play(spec: SweepSpec, folder: Path, *, most: int = 1000, at_once: int = 1) -> list[Trial]:
    """Carry trials out until the board is done or so many are; returns them in order."""
    board, played = Board(spec, Ledger(folder)), []
    while len(played) < most and (taken := board.take(at_once)):
        board.put([(trial, Found("finished", metrics={"heldout/loss_ce": score(trial)})) for trial in taken])
        played += taken
    return played


def test_the_baseline_comes_first_and_the_controls_of_the_best_point_last(tmp_path: Path) -> None:
    played = play(sweep(baseline=NO_BOOST, controls={"random": CONTROL}), tmp_path)
    assert [trial.point.label for trial in played] == ["baseline", "scale=1", "scale=2", "scale=3", "random"]
    control = played[-1].spec.objective.steering.boost
    assert control is not None
    assert (control.scale, control.control) == (2.0, "random_keys")


def test_seeds_are_paired_across_points(tmp_path: Path) -> None:
    played = play(sweep(seeds=(3, 5), baseline=NO_BOOST), tmp_path)
    assert [trial.spec.seed for trial in played] == [3, 5] * 4


def test_a_trial_has_the_name_of_the_same_config_written_by_hand(tmp_path: Path) -> None:
    by_hand = sweep(space={FRACTION: {"kind": "grid", "values": [0.5]}}).base
    boost = by_hand.objective.steering.boost
    assert boost is not None
    (trial,) = play(sweep(space={SCALE: {"kind": "grid", "values": [boost.scale]}}), tmp_path)
    assert trial.name == run_name(by_hand)


@pytest.mark.parametrize(
    "search", [{"kind": "grid"}, {"kind": "random", "num_points": 2}, {"kind": "tpe", "num_points": 5}]
)
def test_a_restart_repeats_no_trial_that_has_ended_and_leaves_none_out(
    search: dict[str, object], tmp_path: Path
) -> None:
    kind = "choice" if search["kind"] == "tpe" else "grid"
    space = {SCALE: {"kind": kind, "values": [1.0, 2.0, 3.0]}}
    if search["kind"] != "grid":
        space[FRACTION] = {"kind": "log_uniform", "low": 0.001, "high": 0.1}
    spec = sweep(search=search, space=space, seeds=(0, 1))
    first = play(spec, tmp_path, most=3)
    second = play(spec, tmp_path)
    names = [trial.name for trial in first + second]
    assert len(names) == len(set(names)) == {"grid": 6, "random": 12, "tpe": 10}[str(search["kind"])]
    assert play(spec, tmp_path) == []


def test_what_reached_the_ledger_before_the_disk_failed_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "no space")

    kept = Ledger(tmp_path)
    for n in (1, 2):
        kept.propose({"a": n})
    with monkeypatch.context() as patch:
        patch.setattr(ledger.os, "fsync", fail)
        with pytest.raises(OSError, match="no space"):
            kept.sync()
    kept.propose({"a": 3})
    kept.sync()
    assert Ledger(tmp_path).proposed == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_torn_last_line_of_the_ledger_costs_that_trial_alone(tmp_path: Path) -> None:
    play(sweep(), tmp_path)
    file = tmp_path / "trials.jsonl"
    file.write_text(file.read_text()[:-20])
    assert [trial.point.label for trial in play(sweep(), tmp_path)] == ["scale=3"]


def test_points_that_are_handed_out_together_were_written_down_together_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    monkeypatch.setattr(ledger.os, "fsync", writes.append)
    Board(sweep(), Ledger(tmp_path)).take(3)
    assert len(writes) == 1
    assert Ledger(tmp_path).proposed == [{SCALE: 1.0}, {SCALE: 2.0}, {SCALE: 3.0}]


def test_the_budget_keeps_room_for_the_controls(tmp_path: Path) -> None:
    spec = sweep(baseline=NO_BOOST, controls={"random": CONTROL}, seeds=(0, 1), budget={"trials": 9})
    assert [trial.point.role for trial in play(spec, tmp_path)] == ["baseline"] * 2 + ["point"] * 4 + ["control"] * 2


def test_a_budget_of_tokens_ends_the_search(tmp_path: Path) -> None:
    each = 6 * 4 * 256
    board = Board(sweep(budget={"tokens": 2 * each}), Ledger(tmp_path))
    while taken := board.take():
        board.put([(taken[0], Found("finished", metrics={"heldout/loss_ce": 1.0}, tokens=each))])
    assert len(board.points) == 2


def test_controls_wait_for_the_points_that_are_going(tmp_path: Path) -> None:
    board = Board(sweep(baseline=NO_BOOST, controls={"random": CONTROL}), Ledger(tmp_path))
    going = board.take(10)
    assert len(going) == 4
    assert board.take() == []
    assert not board.is_done
    board.put([(trial, Found("finished", metrics={"heldout/loss_ce": score(trial)})) for trial in going])
    assert [trial.point.role for trial in board.take()] == ["control"]


def test_a_closed_board_is_done_when_nothing_is_going(tmp_path: Path) -> None:
    board = Board(sweep(seeds=(0, 1)), Ledger(tmp_path))
    (going,) = board.take()
    board.closed = True
    assert board.take() == []
    assert not board.is_done
    board.put([(going, None)])
    assert board.is_done


def test_a_trial_that_was_stopped_is_handed_out_again_in_the_next_attempt(tmp_path: Path) -> None:
    board = Board(sweep(), Ledger(tmp_path))
    (trial,) = board.take()
    board.put([(trial, None)])
    assert Board(sweep(), Ledger(tmp_path)).take()[0].name == trial.name


def test_values_that_only_together_are_no_config_are_recorded_and_passed_over(tmp_path: Path) -> None:
    space = {
        "training.num_steps": {"kind": "grid", "values": [6, None]},
        "training.num_epochs": {"kind": "grid", "values": [None, 1.0]},
    }
    spec = sweep(space=space)
    assert len(play(spec, tmp_path)) == 2
    refused = [record for record in Ledger(tmp_path).records.values() if record.found.state == "failed"]
    assert len(refused) == 2
    assert all("num_steps" in str(record.found.cause) for record in refused)


def test_a_point_with_a_failed_seed_is_not_the_best(tmp_path: Path) -> None:
    board = Board(sweep(seeds=(0, 1)), Ledger(tmp_path))
    while taken := board.take():
        (trial,) = taken
        bad = trial.point.values[SCALE] == 2.0 and trial.seed == 1
        board.put(
            [(trial, Found("failed", cause="x") if bad else Found("finished", {"heldout/loss_ce": score(trial)}))]
        )
    best = board.best()
    assert best is not None
    assert best.values[SCALE] == 1.0


def test_the_estimator_learns_from_what_came_out(tmp_path: Path) -> None:
    space = {SCALE: {"kind": "uniform", "low": 0.0, "high": 8.0}}
    played = play(sweep(space=space, search={"kind": "tpe", "num_points": 40, "num_startup": 8}), tmp_path)
    off = [abs(trial.point.values[SCALE] - 2.0) for trial in played]
    assert median(off[20:]) < median(off[:8]) / 2
