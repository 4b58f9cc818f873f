"""Packing keeps every example whole, once, within the row's length, and wastes little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerline.data.packing import pack

lengths_and_capacity = st.integers(1, 64).flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(1, capacity), max_size=200), st.just(capacity))
)


@given(lengths_and_capacity)
def test_every_example_is_in_exactly_one_row_and_no_row_is_too_long(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    rows = pack(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= capacity for row in rows)
    assert all(rows)


@given(lengths_and_capacity)
def test_no_two_rows_would_fit_into_one(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    filled = sorted(sum(lengths[index] for index in row) for row in pack(lengths, capacity))
    assert len(filled) < 2 or filled[0] + filled[1] > capacity


@given(lengths_and_capacity)
def test_packing_is_deterministic(case: tuple[list[int], int]) -> None:
    assert pack(*case) == pack(*case)


@given(lengths_and_capacity)
def test_no_example_would_fit_into_an_earlier_row_left_with_room(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    rows = pack(lengths, capacity)
    for later, row in enumerate(rows):
        opened_with = lengths[row[0]]
        for earlier in rows[:later]:
            before = sum(lengths[i] for i in earlier if (-lengths[i], i) < (-opened_with, row[0]))
            assert before + opened_with > capacity


def test_the_tightest_row_is_chosen() -> None:
    # 6 and 5 open rows of 10; 4 fits both and goes where nothing is left over.
    assert pack([6, 5, 4], 10) == [[0, 2], [1]]


def test_an_example_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="11 tokens"):
        pack([3, 11], 10)
