"""The order of rows depends on the step alone, and every way of sharing a step holds the same rows."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerline.data.sampler import GlobalSampler
from steerline.errors import DataError

sizes = st.tuples(st.integers(1, 60), st.integers(1, 24), st.integers(0, 2**32))


@given(sizes, st.integers(0, 20), st.integers(1, 5), st.integers(1, 6), st.booleans())
def test_the_shards_of_a_step_are_its_rows(
    size: tuple[int, int, int], step: int, workers: int, micro: int, by_length: bool
) -> None:
    lengths = [(row * 7) % 13 + 1 for row in range(size[0])] if by_length else None
    sampler = GlobalSampler(*size, lengths)
    shards = [sampler.shard(step, rank, workers, micro) for rank in range(workers)]
    assert len({len(shard) for shard in shards}) == 1
    assert all(len(batch) <= micro for shard in shards for batch in shard)
    assert sorted(row for shard in shards for batch in shard for row in batch) == sorted(sampler.step(step))
    counts = [sum(map(len, shard)) for shard in shards]
    assert max(counts) - min(counts) <= 1


@given(sizes, st.integers(1, 5))
def test_every_epoch_holds_every_row_once(size: tuple[int, int, int], epochs: int) -> None:
    rows, batch, _ = size
    sampler = GlobalSampler(*size)
    order = [row for step in range(-(-rows * epochs // batch)) for row in sampler.step(step)]
    for epoch in range(epochs):
        assert sorted(order[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_micro_batches_are_full_where_the_rows_go_round() -> None:
    sampler = GlobalSampler(100, 16, 0)
    for workers in (1, 2, 4):
        shards = [sampler.shard(3, rank, workers, 4) for rank in range(workers)]
        assert all(len(batch) == 4 for shard in shards for batch in shard)
        assert len(shards[0]) == 4 // workers


def test_any_step_is_found_without_those_before_it() -> None:
    walked, jumped = GlobalSampler(50, 8, 3), GlobalSampler(50, 8, 3)
    steps = [walked.step(step) for step in range(40)]
    assert jumped.step(39) == steps[39]
    assert jumped.step(2) == steps[2]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    sampler = GlobalSampler(50, 50, 0)
    assert sampler.step(0) != sampler.step(1)
    assert sampler.step(0) != GlobalSampler(50, 50, 1).step(0)
    assert sampler.step(0) == GlobalSampler(50, 50, 0).step(0)


def test_the_order_of_a_seed_never_changes() -> None:
    # A run that is resumed under a newer version must see the rows it would have seen.
    assert GlobalSampler(10, 5, 7).step(0) == [6, 3, 9, 1, 2]
    assert GlobalSampler(10, 5, 7).step(3) == [0, 4, 3, 7, 6]


def test_lengths_change_the_micro_batches_but_not_the_rows_of_a_step() -> None:
    lengths = [(row * 37) % 100 + 1 for row in range(64)]
    plain, sorted_ = GlobalSampler(64, 16, 0), GlobalSampler(64, 16, 0, lengths)
    assert plain.step(2) == sorted_.step(2)

    def padded(sampler: GlobalSampler) -> int:
        batches = [batch for rank in range(2) for batch in sampler.shard(2, rank, 2, 4)]
        return sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)

    assert padded(sorted_) < padded(plain)


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "steps"),
    [(10, 5, 1, 2), (11, 5, 1, 3), (10, 5, 0.1, 1), (3, 64, 2, 1), (100, 8, 1.5, 19)],
)
def test_steps_cover_the_epochs_asked_for(rows: int, batch: int, epochs: float, steps: int) -> None:
    assert GlobalSampler(rows, batch, 0).num_steps(epochs) == steps


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        GlobalSampler(0, 4, 0)


def test_a_sampler_travels_between_processes() -> None:
    sampler = GlobalSampler(50, 8, 3)
    sampler.step(0)
    assert pickle.loads(pickle.dumps(sampler)).step(9) == sampler.step(9)
