"""Plain data have one spelling, and one hash."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from steerline.simulation.canonical import canonical, digest, plain

TOWN = np.arange(6, dtype=np.int32)
STATE = {"b": [1, 2.5, None], "a": "\ud800", "town": TOWN}


def test_what_was_written_is_read_again() -> None:
    again = plain(canonical(STATE))
    assert {**again, "town": None} == {**STATE, "town": None}
    assert again["town"].dtype == np.int32
    assert again["town"].tolist() == [0, 1, 2, 3, 4, 5]


def test_without_arrays_the_digest_is_that_of_the_canonical_bytes() -> None:
    value = {"b": [1, np.float64(0.5)], "a": {"c": "x"}}
    assert digest(value) == hashlib.blake2b(b'{"a":{"c":"x"},"b":[1,0.5]}', digest_size=32).hexdigest()


def test_the_digest_does_not_depend_on_the_order_of_keys_nor_on_where_an_array_lies() -> None:
    for town in (np.repeat(TOWN, 2)[::2], TOWN.astype(">i4")):
        assert digest({"town": town, "a": STATE["a"], "b": STATE["b"]}) == digest(STATE)


@pytest.mark.parametrize(
    "town",
    [
        np.array([0, 1, 2, 3, 4, 6], np.int32),
        np.arange(6),
        np.arange(6, dtype=np.int32).reshape(2, 3),
        [0, 1, 2, 3, 4, 5],
    ],
    ids=["content", "type", "shape", "no array"],
)
def test_another_array_has_another_digest(town: Any) -> None:
    assert digest({**STATE, "town": town}) != digest(STATE)


@pytest.mark.parametrize("town", [np.zeros(0), np.zeros((0, 2), np.int32), np.array([True, False]), np.zeros((2, 2)).T])
def test_all_shapes_have_a_digest(town: Any) -> None:
    assert digest(town) == digest(plain(canonical(town)))


@pytest.mark.parametrize(("value", "error"), [({"a": {1}}, TypeError), ([float("nan")], ValueError)])
def test_what_is_not_plain_has_no_digest(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        digest(value)
