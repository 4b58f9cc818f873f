"""Sweeps under a real Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util import placement_group_table, remove_placement_group

from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Trial
from steerline.errors import SteeringError
from steerline.orchestration.stack import Stack
from steerline.sweeps.board import Board
from steerline.sweeps.driver import TrialResources, carry_out
from steerline.sweeps.kinds import TrialKind
from steerline.sweeps.ledger import Found, Ledger
from steerline.training.ray_trainer import cluster_nodes
from tests.unit.sweeps.sweeps import SCALE, LightTrials, SteppedTrials, sweep

pytestmark = pytest.mark.integration


@pytest.fixture
def cluster(stack: Stack) -> None:
    """A connection to the session's cluster."""
    cluster_nodes()


def run(spec: SweepSpec, kind: TrialKind, folder: Path) -> Ledger:
    board = Board(spec, Ledger(folder))
    carry_out(board, kind, None, folder, lambda trial, found: None)
    assert board.is_done
    return Ledger(folder)


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def all_cpus_are_free() -> bool:
    return ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]


def states(ledger: Ledger) -> dict[str, str]:
    return {record.label: record.found.state for record in ledger.records.values()}


def test_two_hundred_light_points_are_all_carried_out(cluster: None, tmp_path: Path) -> None:
    values = [round(0.02 * n, 2) for n in range(200)]
    ledger = run(sweep(space={SCALE: {"kind": "grid", "values": values}}), LightTrials(), tmp_path)
    assert len(ledger.records) == 200
    best = min(ledger.records.values(), key=lambda record: record.found.metrics["heldout/loss_ce"])
    assert best.label == "scale=2 seed=0"
    until(all_cpus_are_free)


def test_what_a_trial_asks_for_is_granted_before_tune_can_take_it_back(cluster: None) -> None:
    group = TrialResources([{"CPU": 1.0}]).to_placement_group()
    state = placement_group_table(group)["state"]
    remove_placement_group(group)
    assert state == "CREATED"
    until(all_cpus_are_free)


def test_asha_stops_the_worse_trials_early_and_the_best_comes_to_its_end(cluster: None, tmp_path: Path) -> None:
    spec = sweep(
        space={SCALE: {"kind": "grid", "values": [2.0, 4.0, 6.0]}},
        scheduler={"kind": "asha", "grace_steps": 1, "reduction_factor": 2},
        budget={"max_concurrent": 1},
    )
    found = states(run(spec, SteppedTrials(), tmp_path))
    assert found["scale=2 seed=0"] == "finished"
    assert list(found.values()).count("stopped_early") == 2


def test_a_restart_compares_with_the_trials_of_the_attempt_before(cluster: None, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"scheduler": {"kind": "asha", "reduction_factor": 2}}
    good, bad = ({SCALE: {"kind": "grid", "values": values}} for values in ([2.0], [2.0, 6.0]))
    run(sweep(space=good, **changes), SteppedTrials(), tmp_path)
    found = states(run(sweep(space=bad, **changes), SteppedTrials(), tmp_path))
    assert found == {"scale=2 seed=0": "finished", "scale=6 seed=0": "stopped_early"}


def test_a_sweep_that_has_ended_has_nothing_left_to_do(cluster: None, tmp_path: Path) -> None:
    run(sweep(), LightTrials(), tmp_path)
    before = (tmp_path / "trials.jsonl").read_text()
    run(sweep(), LightTrials(), tmp_path)
    assert (tmp_path / "trials.jsonl").read_text() == before


class Refusing(LightTrials):
    """Cannot carry out scale 2, and takes its companions down with it."""

    def evaluate(self, trials: Sequence[Trial]) -> list[Found]:
        if any(trial.point.values[SCALE] == 2.0 for trial in trials):
            raise SteeringError("scale 2 is refused")
        return super().evaluate(trials)


class Deadly(LightTrials):
    """Its process dies of scale 2, as of a lack of memory."""

    def evaluate(self, trials: Sequence[Trial]) -> list[Found]:
        if any(trial.point.values[SCALE] == 2.0 for trial in trials):
            import os

            os._exit(137)
        return super().evaluate(trials)


@pytest.mark.parametrize(("kind", "cause"), [(Refusing(), "SteeringError: scale 2"), (Deadly(), "died")])
def test_a_trial_that_breaks_is_recorded_with_its_cause_and_breaks_no_other(
    kind: TrialKind, cause: str, cluster: None, tmp_path: Path
) -> None:
    ledger = run(sweep(), kind, tmp_path)
    assert states(ledger) == {"scale=1 seed=0": "finished", "scale=2 seed=0": "failed", "scale=3 seed=0": "finished"}
    (failed,) = (record for record in ledger.records.values() if record.found.state == "failed")
    assert cause in str(failed.found.cause)
    until(all_cpus_are_free)


def test_seeds_change_every_point_alike(cluster: None, tmp_path: Path) -> None:
    ledger = run(sweep(seeds=(0, 1)), LightTrials(), tmp_path)
    found = {record.label: record.found.metrics["heldout/loss_ce"] for record in ledger.records.values()}
    for scale in (1, 2, 3):
        assert found[f"scale={scale} seed=1"] - found[f"scale={scale} seed=0"] == pytest.approx(0.01)


def test_the_wall_time_ends_the_search(cluster: None, tmp_path: Path) -> None:
    board = Board(sweep(budget={"wall_time_s": 1e-6}), Ledger(tmp_path))
    carry_out(board, LightTrials(), None, tmp_path, lambda trial, found: None)
    assert board.closed
    assert not board.ledger.records
