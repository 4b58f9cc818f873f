"""Residual scales in configs: what is refused, and where it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from steerline.config.load import load
from steerline.config.render import run_name
from steerline.config.residual_fit import ResidualFitSpec
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import SteeringSpec

CONFIGS = Path(__file__).parents[3] / "jobs" / "configs"
ROWS = {"source": {"kind": "file", "path": "rows.jsonl"}, "format": {"kind": "text"}}
CLASSES = {
    "source": {"kind": "file", "path": "rows.jsonl"},
    "format": {"kind": "classification", "classes": ["a", "b"]},
}
SPLIT = {"name": "id", "train": [ROWS], "heldout": [ROWS]}
JOB = {"kind": "residual_scale", "name": "j", "model": {"source": {"kind": "hub", "id": "x/y"}}, "splits": [SPLIT]}


@pytest.mark.parametrize(
    "fields",
    [
        {"betas": -0.1},
        {"betas": [1.0, -1.0]},
        {"betas": [1.0, 0.5], "layers": [3]},
        {"ffn_betas": 0.5},
        {"split": True, "ffn_betas": [0.5, 0.5], "layers": [1]},
        {"strength": 1.5},
    ],
)
def test_betas_that_do_not_fit_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ResidualScaleSpec.model_validate(fields)


def test_a_layer_is_named_once() -> None:
    with pytest.raises(ValidationError, match="twice"):
        SteeringSpec.model_validate({"residual_scale": {"layers": [1, 1]}})


@pytest.mark.parametrize(
    "changes",
    [
        {"splits": []},
        {"splits": [SPLIT, SPLIT]},
        {"splits": [{**SPLIT, "train": [CLASSES]}]},
        {"fit": {"seeds": [1, 1]}},
        {"cluster": {"num_workers": 2}},
        {"model": {"source": {"kind": "hub", "id": "x/y"}, "lora": {}}},
    ],
)
def test_jobs_that_cannot_be_carried_out_are_refused(changes: dict[str, object]) -> None:
    ResidualFitSpec.model_validate(JOB)
    with pytest.raises(ValidationError):
        ResidualFitSpec.model_validate({**JOB, **changes})


def test_the_ready_probe_names_the_run_of_the_ready_small_model() -> None:
    probe = load(CONFIGS / "residual_scale_signal_noise.yaml").of(ResidualFitSpec).spec
    small = load(CONFIGS / "signal_noise_small.yaml").spec
    assert probe.model.source.run == run_name(small)  # type: ignore[union-attr]
