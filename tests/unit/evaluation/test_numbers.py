from __future__ import annotations

import pytest

from steerline.evaluation.numbers import last_number, same_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 72.", 72),
        ("#### 1,234", 1234),
        ("She pays $1,234.50.", 1234.5),
        ("It fell to -5 degrees", -5),
        ("a loss of -$3.5", -3.5),
        ("a loss of $-3.5", -3.5),
        ("so 20-4", 4),
        ("20 - 4 = 16", 16),
        ("(7)-2", 2),
        ("x=-2", -2),
        ("3/4 of the cake", 0.75),
        ("on 1/2/2024", 2024),
        ("1/0", None),
        ("5 and then 1/0", 5),
        ("about .5 litres", 0.5),
        ("100%", 100),
        ("12 apples and 7 pears", 7),
        ("<<48/2=24>>24 clips", 24),
        ("no number at all", None),
        ("", None),
        ("1.2.3", 0.3),
    ],
)
def test_last_number(text: str, number: float | None) -> None:
    assert last_number(text) == pytest.approx(number)


def test_numbers_agree_up_to_a_thousandth() -> None:
    assert same_number(0.3333, 1 / 3)
    assert same_number(72, 72.0)
    assert not same_number(72, 72.01)
