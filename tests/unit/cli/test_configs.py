from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from steerline.cli.configs import batch_arithmetic
from steerline.config.load import load
from steerline.errors import Problem
from steerline.orchestration import check
from steerline.orchestration.preflight import Finding, Report


@pytest.fixture
def nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "look", lambda loaded, target: Report((), ()))


@pytest.mark.usefixtures("nothing_wrong")
def test_validate_shows_the_run_and_its_batch(steerline, config: Path) -> None:
    ran = steerline("validate", config, "--set", "training.global_batch_size=16")
    assert ran.code == 0
    assert "demo-" in ran.out
    assert "16 rows = 4 accumulation steps x 2 workers x 2 rows" in ran.out
    assert "5 steps" in ran.out
    assert "no cluster is up" in ran.out


@pytest.mark.usefixtures("nothing_wrong")
def test_validate_shows_where_each_setting_comes_from(steerline, config: Path) -> None:
    ran = steerline("validate", config, "--provenance", "--set", "seed=3")
    lines = {line.split()[0]: line.split()[1] for line in ran.out.splitlines() if line}
    assert lines["seed"] == "--set"
    assert lines["zero.stage"] == "default"
    assert lines["name"].endswith("demo.yaml:2")


def test_validate_lists_every_problem_of_a_config_at_once(steerline, config: Path) -> None:
    ran = steerline("validate", config, "--set", "sed=3", "--set", "training.num_steps=none")
    assert ran.code == 2
    assert "sed" in ran.err
    assert "training.num_steps" in ran.err


def test_validate_says_what_stands_in_the_way_and_warns(
    steerline, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = tuple(Finding(Problem(what), fatal=True) for what in ("no room", "no time"))
    report = Report(problems, (Finding(Problem("hot day"), fatal=False),))
    monkeypatch.setattr(check, "look", lambda loaded, target: report)
    ran = steerline("validate", config)
    assert ran.code == 3
    assert all(what in ran.err for what in ("no room", "no time", "hot day"))


def test_the_resolved_config_is_json_that_loads_as_the_same_run(steerline, config: Path, tmp_path: Path) -> None:
    ran = steerline("validate", config, "--set", "seed=3", "--resolved")
    assert ran.code == 0
    copy = tmp_path / "copy.json"
    copy.write_text(ran.out)
    assert load(copy).spec == load(config, ["seed=3"]).spec


def test_the_schema_accepts_the_resolved_config(steerline, config: Path) -> None:
    schema = json.loads(steerline("schema", "finetune").out)
    jsonschema.validate(json.loads(steerline("validate", config, "--resolved").out), schema)
    assert steerline("schema", "nonsense").code == 2


def test_a_batch_that_cannot_be_made_is_said_so(config: Path) -> None:
    spec = load(config, ["cluster.num_workers=3"]).spec
    assert batch_arithmetic(spec) == "8 rows are no multiple of 3 workers x 2 rows"


def test_preview_shows_rows_lengths_and_totals(steerline, config: Path) -> None:
    packed = ("--set", "data.packing=true", "--set", "data.max_length_tokens=128")
    ran = steerline("preview", config, "--rows", "2", *packed)
    assert ran.code == 0
    assert len([line for line in ran.out.splitlines() if line.startswith("row ")]) == 2
    assert "[[" in ran.out
    assert "20 loaded, 20 kept" in ran.out


def test_preview_of_held_out_rows_needs_some(steerline, config: Path) -> None:
    ran = steerline("preview", config, "--heldout")
    assert ran.code == 4
    assert "data.heldout" in ran.err
