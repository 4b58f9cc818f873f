"""Generated expressions are distinct, right, and the same for the same seed."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerline.data.synthetic import GENERATORS
from steerline.data.synthetic.arithmetic import evaluate
from steerline.errors import DataError

arithmetic = GENERATORS["arithmetic"]


@given(st.lists(st.integers(0, 50), min_size=2, max_size=6), st.data())
def test_values_are_those_of_ordinary_arithmetic(numbers: list[int], data: st.DataObject) -> None:
    operators = [data.draw(st.sampled_from("+-*")) for _ in numbers[1:]]
    words = [str(numbers[0])] + [f"{op} {number}" for op, number in zip(operators, numbers[1:], strict=True)]
    tree = ast.parse(" ".join(words), mode="eval")
    assert evaluate(numbers, operators) == eval(compile(tree, "", "eval"))


def test_rows_are_distinct_and_within_the_range() -> None:
    rows = arithmetic(500, 3, {"operands": 3, "low": 5, "high": 30, "operators": ["+", "*"]})
    expressions = [row["expression"] for row in rows]
    assert len(set(expressions)) == 500
    for row in rows:
        words = row["expression"].split()
        assert all(5 <= int(word) <= 30 for word in words[::2])
        assert len(words) == 5
        assert eval(row["expression"]) == row["value"]


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert arithmetic(20, 1, {}) == arithmetic(20, 1, {})
    assert arithmetic(20, 1, {}) != arithmetic(20, 2, {})
    assert arithmetic(40, 1, {})[:20] == arithmetic(20, 1, {})


def test_every_expression_there_is_can_be_asked_for() -> None:
    rows = arithmetic(9, 0, {"low": 1, "high": 3})
    assert sorted(row["expression"] for row in rows) == [f"{a} + {b}" for a in (1, 2, 3) for b in (1, 2, 3)]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"low": 1, "high": 2}, "fewer distinct"),
        ({"operator": ["+"]}, "operator"),
        ({"operators": ["/"]}, "operators"),
        ({"low": 9, "high": 1}, "low 9 is above high 1"),
    ],
)
def test_impossible_arguments_are_refused(args: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        arithmetic(10, 0, args)
    assert words in str(caught.value)
