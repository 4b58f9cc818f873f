"""The signal-noise task: progressions modulo K among noise, the value asked for, and its arguments."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from steerline.data.synthetic import GENERATORS
from steerline.errors import DataError

signal_noise = GENERATORS["signal_noise"]


def signals(prompt: str) -> list[int]:
    return [int(value) for value in re.findall(r"S ?(\d+)", prompt)]


@pytest.mark.parametrize("layout", ["joined", "spaced"])
@pytest.mark.parametrize("split", ["id", "ood"])
def test_the_answer_continues_the_progression_of_ten_elements(split: str, layout: str) -> None:
    for row in signal_noise(200, 3, {"split": split, "layout": layout}):
        values, modulus, step = signals(row["prompt"]), row["modulus"], row["step"]
        assert len(values) == 10
        assert values == [(row["start"] + place * step) % modulus for place in range(10)]
        assert int(row["answer"]) == (values[-1] + step) % modulus
        assert 1 <= step < modulus


def test_the_two_layouts_write_the_same_draws() -> None:
    joined, spaced = (signal_noise(1, 5, {"layout": layout, "elements": 3})[0] for layout in ("joined", "spaced"))
    assert re.fullmatch(r"(S\d+ N\d+ ){3}S", joined["prompt"])
    assert re.sub(r"(?<=[SN])(?=\d)", " ", joined["prompt"]) == spaced["prompt"]
    assert " " + joined["answer"] == spaced["answer"]


def test_the_last_signal_may_be_asked_for_in_place_of_the_next() -> None:
    upcoming, last = (signal_noise(1, 5, {"target": target})[0] for target in ("next", "last"))
    assert len(signals(last["prompt"])) == 9
    assert signals(last["prompt"]) == signals(upcoming["prompt"])[:9]
    assert int(last["answer"]) == signals(upcoming["prompt"])[9]


def test_moduli_are_13_in_distribution_and_every_other_one_from_5_to_25_elsewhere() -> None:
    assert {row["modulus"] for row in signal_noise(50, 0, {})} == {13}
    counts = Counter(row["modulus"] for row in signal_noise(4000, 0, {"split": "ood"}))
    assert set(counts) == set(range(5, 26)) - {13}
    assert all(130 < count < 280 for count in counts.values())  # 200 of each, give or take


def test_noise_covers_its_range() -> None:
    rows = signal_noise(200, 1, {"noise_low": 7, "noise_high": 9})
    assert {int(value) for row in rows for value in re.findall(r"N(\d+)", row["prompt"])} == {7, 8, 9}


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert signal_noise(20, 1, {}) == signal_noise(20, 1, {})
    assert signal_noise(20, 1, {}) != signal_noise(20, 2, {})


@pytest.mark.parametrize(
    "args",
    [
        {"noise_low": 5, "noise_high": 4},
        {"split": "ood", "ood_low": 13, "ood_high": 13},
        {"modulo": 13},
        {"elements": 2},
    ],
)
def test_impossible_arguments_are_refused(args: dict[str, object]) -> None:
    with pytest.raises(DataError, match="signal-noise"):
        signal_noise(1, 0, args)
