"""How strengths move over training."""

from __future__ import annotations

import pytest

from steerline.config.layer_selection import StrengthSchedule
from steerline.steering.schedule import schedule_factor


@pytest.mark.parametrize(
    ("warmup", "decay", "expected"),
    [
        (0, None, [1, 1, 1, 1, 1, 1, 1]),
        (2, None, [0, 0.5, 1, 1, 1, 1, 1]),
        (0, 4, [1, 0.75, 0.5, 0.25, 0, 0, 0]),
        (2, 4, [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
    ],
)
def test_strength_rises_to_1_then_stays_or_falls_to_0(warmup: int, decay: int | None, expected: list[float]) -> None:
    schedule = StrengthSchedule(warmup_steps=warmup, decay_steps=decay)
    assert [schedule_factor(schedule, step) for step in range(7)] == expected
