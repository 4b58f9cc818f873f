"""A checkpoint is whole or it is not used."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from steerline.errors import CheckpointError
from steerline.training.checkpoint import CheckpointStore
from steerline.training.workers import Workers

WORKERS = Workers()


def shards(content: bytes = b"weights" * 100) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "shard.pt").write_bytes(content)

    return write


def saved(tmp_path: Path, *steps: int, keep: int = 9) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints", keep)
    for step in steps:
        store.save({"step": step, "samples_seen": step * 4}, shards(), WORKERS)
    return store


def test_the_newest_checkpoint_is_found_with_its_state(tmp_path: Path) -> None:
    found, rejected = saved(tmp_path, 2, 10).latest_valid()
    assert found is not None
    assert (found.step, found.state["samples_seen"], rejected) == (10, 40, [])


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none").latest_valid() == (None, [])


def test_only_the_newest_are_kept_with_nothing_derived_from_the_others(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, 2, keep=2)
    (store.folder / "step-000001.universal").mkdir()
    store.save({"step": 3}, shards(), WORKERS)
    assert sorted(path.name for path in store.folder.iterdir()) == ["step-000002", "step-000003"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["shards/shard.pt", "state.json", "rng-rank-0.pt", "manifest.json"])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_damaged_checkpoint_is_passed_over_and_the_message_names_the_file(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    store = saved(tmp_path, 1, 2)
    damage(store.path(2) / name)
    found, rejected = store.latest_valid()
    assert found is not None
    assert found.step == 1
    # A flipped bit of the manifest shows as another digest, or as a manifest that cannot be read.
    assert name in str(rejected[0]) or name == "manifest.json"
    assert "step-000002" in str(rejected[0])


def test_what_was_never_completed_is_not_a_checkpoint(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    (store.folder / "step-000002.partial").mkdir()
    found, rejected = store.latest_valid()
    assert found is not None
    assert (found.step, rejected) == (1, [])


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """The operating system refuses to write beyond this size, as a full disk does."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def torch_shards(folder: Path) -> None:
    folder.mkdir()
    torch.save(torch.zeros(1_000_000), folder / "shard.pt")


@pytest.mark.parametrize("write", [shards(b"x" * 1_000_000), torch_shards])
def test_a_full_disk_leaves_earlier_checkpoints_and_no_remains(tmp_path: Path, write: Callable[[Path], None]) -> None:
    store = saved(tmp_path, 1)
    with files_of_at_most(100_000), pytest.raises(CheckpointError, match="earlier checkpoints are untouched") as error:
        store.save({"step": 2}, write, WORKERS)
    assert "resumes from step 1" in str(error.value)
    assert [path.name for path in store.folder.iterdir()] == ["step-000001"]
    assert store.latest_valid()[0] is not None


def test_a_step_can_be_saved_again_over_its_damaged_checkpoint(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    truncate(store.path(1) / "shards/shard.pt")
    store.save({"step": 1}, shards(b"new"), WORKERS)
    found, _ = store.latest_valid()
    assert found is not None
    assert (found.folder / "shards/shard.pt").read_bytes() == b"new"


def test_the_random_state_comes_back(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    torch.manual_seed(3)
    checkpoint = store.save({"step": 1}, shards(), WORKERS)
    expected = torch.rand(4)
    state = checkpoint.rng(0)
    assert state is not None
    torch.set_rng_state(state)
    assert torch.equal(torch.rand(4), expected)
    assert checkpoint.rng(7) is None


def test_the_best_checkpoint_is_kept_however_old(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", 1)
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 4)):
        store.save({"step": step}, shards(), WORKERS, best=best)
    assert store.steps() == [4, 5]


def test_a_checkpoint_is_found_by_its_step_or_named_as_missing_or_damaged(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, 2)
    assert store.at(1).state["samples_seen"] == 4
    with pytest.raises(CheckpointError, match="step-000007 cannot be used"):
        store.at(7)
    truncate(store.path(2) / "shards" / "shard.pt")
    with pytest.raises(CheckpointError, match="step-000002 cannot be used"):
        store.at(2)
