"""What preflight says of residual-scale jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from steerline.config.residual_fit import ResidualFitSpec
from steerline.orchestration.preflight import preflight
from steerline.orchestration.preflight.residual_fit import RESIDUAL_FIT_CHECKS
from steerline.orchestration.preflight.run import CHECKS
from tests.unit.orchestration.preflight_scenes import nodes

ASK = {"kind": "prompt_answer", "prompt": "{prompt}", "answer": "{answer}"}


def rows(seed: int) -> dict[str, object]:
    return {"source": {"kind": "synthetic", "generator": "signal_noise", "size": 4, "seed": seed}, "format": ASK}


def job(folder: Path, **changes: object) -> ResidualFitSpec:
    source = {"kind": "random", "architecture": "llama", "overrides": {"num_hidden_layers": 2}}
    whole: dict[str, object] = {
        "kind": "residual_scale",
        "name": "tiny",
        "model": {"source": source},
        "splits": [{"name": "id", "train": [rows(0)], "heldout": [rows(1)]}],
        "cluster": {"storage_path": str(folder)},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
    }
    return ResidualFitSpec.model_validate({**whole, **changes})


def problems(spec: ResidualFitSpec, cpus: float = 4) -> dict[str, str]:
    report = preflight(spec, cluster=nodes((cpus, 0)), environment={})
    return {found.check: found.problem.path or "" for found in (*report.problems, *report.warnings)}


def test_a_sound_job_has_no_problem(tmp_path: Path) -> None:
    assert problems(job(tmp_path)) == {}


def test_every_check_is_one_that_the_page_of_preflight_errors_has() -> None:
    assert {check.id for check in RESIDUAL_FIT_CHECKS} <= {check.id for check in CHECKS}


@pytest.mark.parametrize(
    ("changes", "check", "path"),
    [
        ({"fit": {"layers": [2]}}, "steering", "fit.layers"),
        (
            {"splits": [{"name": "id", "train": [rows(0)], "heldout": [rows(0)]}]},
            "leakage",
            "splits.0.heldout.0.source",
        ),
        ({"max_length_tokens": 9999}, "length", "max_length_tokens"),
        ({"model": {"source": {"kind": "run", "run": "nothing"}}}, "model", "model.source.run"),
        ({"model": {"source": {"kind": "packaged", "name": "smollm"}}}, "model", "model.source.name"),
        ({"cluster": {"cpus_per_worker": 8}}, "workers", "cluster.num_workers"),
        ({"tracking": {}}, "tracking", "tracking.uri"),
    ],
)
def test_what_stands_in_the_way_is_found_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], check: str, path: str
) -> None:
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path))
    if check == "length":
        source = {"kind": "random", "architecture": "llama", "overrides": {"max_position_embeddings": 64}}
        changes = {**changes, "model": {"source": source}}
    assert problems(job(tmp_path, **changes))[check] == path


def test_data_files_of_every_split_are_looked_for(tmp_path: Path) -> None:
    missing = {"source": {"kind": "file", "path": str(tmp_path / "no.jsonl")}, "format": ASK}
    split = {"name": "ood", "train": [rows(0)], "heldout": [missing]}
    report = preflight(job(tmp_path, splits=[split]), cluster=None, environment={})
    assert [found.problem.path for found in report.problems] == ["splits.0.heldout.0.source.path"]
