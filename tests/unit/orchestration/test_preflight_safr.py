"""Preflight sees where SAFR's terms do not fit the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.orchestration.preflight_scenes import find, job

STEERING = "objective.steering"


@pytest.mark.parametrize(
    ("overrides", "path", "fatal"),
    [
        ([f"{STEERING}.importance.weights=vmask"], "importance.weights", True),
        ([f"{STEERING}.importance.variant=reference", "data.packing=true"], "importance.variant", True),
        ([f"{STEERING}.interaction.variant=reference", "data.packing=true"], "interaction.variant", True),
        ([f"{STEERING}.importance.weights=gradient_x_input", "zero.stage=3"], "importance.weights", True),
        ([f"{STEERING}.importance.layers=early"], "importance.layers", False),
        ([f"{STEERING}.importance.site=embed", "model.lora.rank=4"], "importance.site", False),
        ([f"{STEERING}.vmask.apply=weight"], "vmask", False),
        ([f"{STEERING}.vmask.apply=multiply"], "vmask.apply", False),
    ],
)
def test_what_does_not_fit_is_found(tmp_path: Path, overrides: list[str], path: str, fatal: bool) -> None:
    findings = find("safr", job(tmp_path, *overrides))
    assert [(finding.problem.path, finding.fatal) for finding in findings] == [(f"{STEERING}.{path}", fatal)]
    assert findings[0].problem.fix


def test_balancing_nothing_and_balancing_a_model_in_parts_are_found(tmp_path: Path) -> None:
    (nothing,) = find("safr", job(tmp_path, "objective.balance.kind=gradient_norm"))
    assert not nothing.fatal
    parts = ["objective.balance.kind=gradient_norm", f"{STEERING}.interaction.strength=1"]
    (in_parts,) = find("safr", job(tmp_path, *parts, "zero.stage=3", "zero.offload_parameters=true"))
    assert in_parts.fatal
    assert in_parts.problem.path == "objective.balance"


@pytest.mark.parametrize("part", ["importance.site=block_out", "interaction.form=hidden"])
@pytest.mark.parametrize("model", ["model.attention=sdpa", "model.lora.rank=4"])
def test_terms_that_fit_pass(tmp_path: Path, part: str, model: str) -> None:
    assert find("safr", job(tmp_path, f"{STEERING}.{part}", model)) == []


def test_an_architecture_whose_attention_cannot_be_captured_is_found(tmp_path: Path) -> None:
    spec = job(
        tmp_path,
        "model.source.architecture=gptj",
        "model.source.overrides={n_layer: 2}",
        f"{STEERING}.interaction.strength=1",
    )
    (finding,) = find("safr", spec)
    assert finding.fatal
    assert "layer 0 of gptj" in str(finding.problem)


def test_layers_beyond_the_model_are_found_for_every_mechanism(tmp_path: Path) -> None:
    for name in ("importance", "interaction"):
        spec = job(tmp_path, f"{STEERING}.importance.site=block_out", f"{STEERING}.{name}.layers=[1, 9]")
        (finding,) = find("steering", spec)
        assert finding.problem.path == f"{STEERING}.{name}.layers"
        assert find("safr", spec) == []
