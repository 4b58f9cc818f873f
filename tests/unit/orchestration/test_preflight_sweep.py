"""Bad sweeps are refused before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from steerline.orchestration.preflight import preflight
from tests.unit.sweeps.sweeps import SCALE, sweep


def problems(**changes: Any) -> str:
    report = preflight(sweep(**changes), cluster=None, elsewhere=True, environment={})
    return "\n".join(str(finding.problem) for finding in report.problems)


def test_a_good_sweep_has_no_problems() -> None:
    assert problems() == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {"objective.steering.bost.scale": {"kind": "grid", "values": [1]}}}, "did you mean `boost`?"),
        ({"space": {SCALE: {"kind": "grid", "values": ["much"]}}}, "this value is not allowed"),
        ({"baseline": {"objective.boost": None}}, "the baseline is no valid config"),
        ({"baseline": {}, "controls": {"x": {"trainin.num_steps": 1}}}, "the control x is no valid config"),
        ({"metrics": [{"name": "eval/gsm8k/accuracy", "goal": "max"}]}, "no trial records the metric"),
        ({"budget": {"trials": 1}, "seeds": (0, 1)}, "the budget leaves room for no point"),
        ({"budget": {"tokens": 10}}, "the budget leaves room for no point"),
        (
            {"scheduler": {"kind": "asha", "metric": {"name": "eval/sums/accuracy", "goal": "max"}}},
            "is known at their end alone",
        ),
        (
            {"space": {"cluster.num_workers": {"kind": "grid", "values": [2, 3]}}},
            "at the point num_workers=3",
        ),
    ],
)
def test_a_bad_sweep_is_refused_with_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    assert said in problems(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scheduler": {"kind": "pbt"}}, "copies one trial's weights into another"),
        ({"scheduler": {"kind": "hyperband"}}, "pauses trials"),
        ({"space": {SCALE: {"kind": "grid", "values": []}}}, "at least 1 item"),
        ({"space": {SCALE: {"kind": "uniform", "low": 2, "high": 1}}}, "the range is empty"),
        ({"space": {SCALE: {"kind": "uniform", "low": 1, "high": 2}}}, "a grid search goes through every value"),
        ({"space": {"seed": {"kind": "grid", "values": [1]}}}, "points are compared over seeds"),
        ({"controls": {"x": {}}}, "there is no baseline"),
    ],
)
def test_what_cannot_be_a_sweep_at_all_is_refused_with_the_reason(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        sweep(**changes)
