"""What is partitioned over the workers, and how many there are, does not change what is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

from tests.law.zero_worker import RESUMED, run, setups

Seen = dict[tuple[str, int], dict[str, Any]]
NAMES = [name for name, _, _ in setups()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zero")
    # What takes seconds to import is imported once for the three workers; DeepSpeed imports its Muon at first use.
    preloaded = ["tests.law.zero_worker", "deepspeed.runtime.zero.muon.muon_optimizer"]
    torch.multiprocessing.get_context("forkserver").set_forkserver_preload(preloaded)
    for world_size in (2, 1):
        torch.multiprocessing.start_processes(run, (world_size, folder), nprocs=world_size, start_method="forkserver")
    return folder


@pytest.fixture(scope="module")
def two_workers(folder: Path) -> Seen:
    seen: Seen = torch.load(folder / "seen-2.pt", weights_only=True)
    return seen


@pytest.fixture(scope="module")
def one_worker(folder: Path) -> Seen:
    seen: Seen = torch.load(folder / "seen-1.pt", weights_only=True)
    return seen


def close(found: object, expected: object, tolerance: float) -> None:
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=tolerance, atol=0)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_stage_gives_the_losses_of_stage_0(two_workers: Seen, name: str, stage: int) -> None:
    tolerance = 2e-2 if name == "bf16" else 1e-4
    close(two_workers[name, stage]["losses"], two_workers[name, 0]["losses"], tolerance)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_gathered_weights_are_those_of_stage_0(two_workers: Seen, name: str, stage: int) -> None:
    expected = two_workers[name, 0]["weights"]
    found = two_workers[name, stage]["weights"]
    assert found.keys() == expected.keys()
    tolerance = 2e-2 if name == "bf16" else 1e-4
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "bf16"])
def test_two_workers_learn_what_one_learns(two_workers: Seen, one_worker: Seen, name: str, stage: int) -> None:
    close(two_workers[name, stage]["losses"], one_worker[name, 0]["losses"], 1e-5)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("name", RESUMED)
def test_every_stage_gives_one_worker_the_losses_of_stage_0(one_worker: Seen, name: str, stage: int) -> None:
    close(one_worker[name, stage]["losses"], one_worker[name, 0]["losses"], 2e-2 if name == "bf16" else 1e-5)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("name", RESUMED)
def test_a_restored_engine_goes_on_exactly(two_workers: Seen, name: str, stage: int) -> None:
    seen = two_workers[name, stage]
    assert seen["again"] == seen["losses"][2:]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_checkpointing_activations_changes_nothing_at_any_stage(two_workers: Seen, stage: int) -> None:
    close(two_workers["checkpointed", stage]["losses"], two_workers["entropy", stage]["losses"], 1e-6)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_clipping_slows_learning_and_the_norm_reported_is_that_before_it(two_workers: Seen, stage: int) -> None:
    clipped, plain = two_workers["clipped", stage]["losses"], two_workers["plain", stage]["losses"]
    close(clipped[0], plain[0], 1e-5)
    assert clipped[0][1] > 0.05
    assert clipped[-1][0] > plain[-1][0]
