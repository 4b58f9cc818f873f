"""`unpack`: packed rows as one row per example."""

from __future__ import annotations

import pytest
import torch

from steerline.errors import SteeringError
from steerline.steering.segments import unpack

PACKED = torch.tensor([[1, 1, 1, 2, 2, 0], [0, 1, 2, 2, 3, 3], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]])


def test_every_example_gets_a_row_of_its_own_in_order() -> None:
    x = torch.arange(24).view(4, 6)
    rows, mask = unpack(x, PACKED)
    assert mask.tolist() == [[n < length for n in range(4)] for length in (3, 2, 1, 2, 2, 4)]
    assert [row[keep].tolist() for row, keep in zip(rows, mask, strict=True)] == [
        [0, 1, 2], [3, 4], [7], [8, 9], [10, 11], [18, 19, 20, 21],
    ]  # fmt: skip
    assert (rows[~mask] == 0).all()


def test_values_keep_their_bits_and_gradients_come_back_to_their_place() -> None:
    x = torch.randn(4, 6, 2, 3, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    rows, mask = unpack(x, PACKED)
    assert rows.shape == (6, 4, 2, 3)
    assert torch.equal(rows[mask], x[PACKED > 0])
    rows.backward(torch.ones_like(rows))
    assert x.grad is not None
    assert torch.equal(x.grad, (PACKED > 0)[..., None, None].expand_as(x).bfloat16())


@pytest.mark.parametrize("ids", [[[1, 1, 0], [0, 1, 1]], [[0, 0, 0], [0, 0, 0]]])
def test_rows_of_one_example_stay_where_they_are(ids: list[list[int]]) -> None:
    x = torch.randn(2, 3, 4)
    rows, mask = unpack(x, torch.tensor(ids))
    assert rows is x
    assert mask.tolist() == [[i > 0 for i in row] for row in ids]


def test_an_empty_batch_stays_empty() -> None:
    rows, mask = unpack(torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.long))
    assert rows.shape == (0, 3, 2)
    assert mask.shape == (0, 3)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SteeringError, match="do not fit"):
        unpack(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long))
