import math

import pytest

from steerline.progress import Progress, format_progress, parse_progress


def test_a_formatted_line_parses_back() -> None:
    line = format_progress(12, 40, {"loss": 2.3125, "tokens_per_s": 812.0})
    assert line == "steerline: step=12/40 loss=2.3125 tokens_per_s=812"
    assert parse_progress(line) == Progress(12, 40, {"loss": 2.3125, "tokens_per_s": 812.0})


def test_a_line_without_values_parses_back() -> None:
    assert parse_progress(format_progress(0, 3, {})) == Progress(0, 3, {})


def test_a_worker_prefix_and_colours_are_skipped() -> None:
    line = "\x1b[36m(RayTrainWorker pid=12, ip=127.0.0.1)\x1b[0m steerline: step=1/2 loss=0.5\n"
    assert parse_progress(line) == Progress(1, 2, {"loss": 0.5})


def test_small_large_and_non_finite_numbers_survive() -> None:
    values = {"lr": 3e-7, "big": 1.25e12, "nan": math.nan, "inf": math.inf}
    parsed = parse_progress(format_progress(1, 2, values))
    assert parsed is not None
    assert parsed.values["lr"] == 3e-7
    assert parsed.values["big"] == 1.25e12
    assert math.isnan(parsed.values["nan"])
    assert parsed.values["inf"] == math.inf


@pytest.mark.parametrize(
    "line",
    [
        "",
        "step=1/2 loss=3",
        "steerline: starting",
        "steerline: step=1 loss=3",
        "steerline: step=1/2 loss=high",
        "nosteerline: step=1/2",
        "steerline: step=1/2 and then some words",
    ],
)
def test_other_lines_are_not_progress(line: str) -> None:
    assert parse_progress(line) is None


@pytest.mark.parametrize("name", ["", "two words", "a=b"])
def test_a_name_that_breaks_the_line_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="without spaces"):
        format_progress(1, 2, {name: 1.0})
