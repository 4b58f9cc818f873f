"""An evaluation job's config says what it judges, and what would not act is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from steerline.config.evaluate import EvaluateSpec
from steerline.config.load import load
from steerline.config.render import run_name
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import SteeringSpec

CONFIG = Path(__file__).parents[3] / "jobs" / "configs" / "evaluate_smollm2.yaml"


def spec(*overrides: str) -> EvaluateSpec:
    return load(CONFIG, overrides).of(EvaluateSpec).spec


def changed(**fields: Any) -> EvaluateSpec:
    return EvaluateSpec.model_validate({**spec().model_dump(), **fields})


def test_each_strength_is_a_point_and_otherwise_the_steering_itself() -> None:
    assert [point.boost and point.boost.strength for point in spec().points.values()] == [0.25, 0.5, 1.0, 2.0, 4.0]
    alone = spec("strengths=[]")
    assert alone.points == {"steered": alone.steering}


def test_without_a_steering_the_plain_model_alone_is_judged() -> None:
    assert changed(steering={}, strengths=()).points == {}


def test_strengths_may_be_those_of_residual_scales() -> None:
    scales = ResidualScaleSpec(betas=0.5)
    points = changed(steering=SteeringSpec(residual_scale=scales).model_dump(), strengths=(0.5,)).points
    assert points["strength 0.5"].residual_scale == scales.model_copy(update={"strength": 0.5})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"strengths": (1.0, 1.0)}, "named twice"),
        ({"steering": {}}, "the steering has none"),
        ({"steering": {"boost": {}}}, "would not act"),
        ({"steering": {"residual_scale": {}}, "strengths": (2.0,)}, "at most 1"),
        ({"steering": {"boost": {"active_in": "both"}, "residual_scale": {}}}, "the steering has two"),
        ({"steering": {"vmask": {}}}, "a gate is trained"),
        ({"cluster": {"num_workers": 2}}, "one process"),
        ({"evaluation": {"tasks": ()}}, "nothing to evaluate"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        changed(**fields)


def test_where_it_runs_and_is_recorded_renames_no_run() -> None:
    assert run_name(spec()) == run_name(spec("tracking.experiment=other", "cluster.cpus_per_worker=1"))
    assert run_name(spec()) != run_name(spec("strengths=[1.0]"))
