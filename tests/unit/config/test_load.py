"""Layers, overrides and provenance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steerline.config.load import load
from steerline.config.model import HubModel, LocalModel
from steerline.config.render import resolved, resolved_json
from tests.unit.config.files import GOOD, problems, write


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_file_becomes_a_spec_and_says_where_each_leaf_came_from(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", GOOD)
    top = write(tmp_path, "top.yaml", "extends: base.yaml\ntraining:\n  optimizer:\n    learning_rate: 1e-5\n")
    loaded = load(top, ["training.num_steps=3"])
    assert loaded.spec.training.num_steps == 3
    assert loaded.spec.training.optimizer.learning_rate == 1e-5
    assert loaded.spec.training.global_batch_size == 8
    assert loaded.provenance["training.num_steps"] == "--set"
    assert loaded.provenance["training.optimizer.learning_rate"] == "top.yaml:4"
    assert loaded.provenance["training.global_batch_size"] == "base.yaml:10"
    assert loaded.provenance["data.train.0.source.path"] == "base.yaml:6"
    assert loaded.provenance["training.precision"] == "default"
    assert loaded.provenance["tracking.tags"] == "default"
    assert [file.name for file in loaded.layers] == ["base.yaml", "top.yaml"]


def test_every_leaf_of_the_resolved_config_has_a_provenance(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "a.yaml", GOOD), ["zero.raw={a: {b: [1, {c: 2}]}, e: {}}"])

    def leaves(value: object, path: str) -> set[str]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        below = {leaf for key, item in items for leaf in leaves(item, f"{path}.{key}")}
        return below or {path[1:]}

    assert set(loaded.provenance) == leaves(resolved(loaded.spec), "")
    assert loaded.provenance["zero.raw.a.b.1.c"] == "--set"


def test_later_layers_win_mappings_merge_and_lists_replace(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml", GOOD + "tracking:\n  tags: {a: x, b: x}\n")
    write(tmp_path, "two.yaml", "tracking:\n  tags: {b: y}\nobjective: {steering: {boost: {layers: [1, 2, 3]}}}\n")
    top = write(tmp_path, "top.yaml", "extends: [one.yaml, two.yaml]\nobjective: {steering: {boost: {layers: [0]}}}\n")
    spec = load(top).spec
    assert spec.tracking.tags == {"a": "x", "b": "y"}
    assert spec.objective.steering.boost is not None
    assert spec.objective.steering.boost.layers == (0,)


def test_extends_is_relative_to_the_file_that_says_it_and_may_be_nested(tmp_path: Path) -> None:
    write(tmp_path, "presets/deep/base.yaml", GOOD)
    write(tmp_path, "presets/mid.yaml", "extends: deep/base.yaml\nseed: 1\n")
    top = write(tmp_path, "configs/top.yaml", "extends: ../presets/mid.yaml\nname: top\n")
    loaded = load(top)
    assert (loaded.spec.name, loaded.spec.seed) == ("top", 1)
    assert loaded.provenance["seed"] == "presets/mid.yaml:2"


def test_a_circle_of_extends_is_refused_and_named(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    write(tmp_path, "b.yaml", "extends: a.yaml\n")
    problem = problems(tmp_path / "a.yaml")["extends"]
    assert problem.what == "a file extends itself"
    assert problem.got == "a.yaml -> b.yaml -> a.yaml"
    assert problem.where == "b.yaml:1:10"


def test_a_file_below_two_others_is_no_circle(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", GOOD)
    write(tmp_path, "l.yaml", "extends: base.yaml\nseed: 1\n")
    write(tmp_path, "r.yaml", "extends: base.yaml\nname: r\n")
    spec = load(write(tmp_path, "top.yaml", "extends: [l.yaml, r.yaml]\n")).spec
    assert spec.name == "r"


def test_another_kind_replaces_the_whole_mapping_below(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", GOOD.replace("id: some/model", "id: some/model, revision: abc"))
    top = write(tmp_path, "top.yaml", "extends: base.yaml\nmodel: {source: {kind: local, path: here}}\n")
    assert load(top).spec.model.source == LocalModel(kind="local", path="here")


@pytest.mark.parametrize("source", ["{id: other/model}", "{kind: hub, id: other/model}"])
def test_the_same_kind_or_none_merges(tmp_path: Path, source: str) -> None:
    write(tmp_path, "base.yaml", GOOD.replace("id: some/model", "id: some/model, revision: abc"))
    top = write(tmp_path, "top.yaml", f"extends: base.yaml\nmodel: {{source: {source}}}\n")
    assert load(top).spec.model.source == HubModel(kind="hub", id="other/model", revision="abc")


def test_a_field_that_merely_happens_to_be_called_kind_does_not_replace_its_mapping(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", GOOD + "  schedule: {kind: linear, warmup_steps: 7}\n")
    top = write(tmp_path, "top.yaml", "extends: base.yaml\ntraining: {schedule: {kind: cosine}}\n")
    schedule = load(top).spec.training.schedule
    assert (schedule.kind, schedule.warmup_steps) == ("cosine", 7)


def test_null_switches_off_what_a_layer_below_switched_on(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", GOOD + "objective: {steering: {boost: {strength: 2}}}\n")
    top = write(tmp_path, "top.yaml", "extends: base.yaml\nobjective: {steering: {boost: null}}\n")
    assert load(top).spec.objective.steering.boost is None
    on = load(top, ["objective.steering.boost.strength=3"]).spec.objective.steering.boost
    assert on is not None
    assert on.strength == 3


def test_an_override_is_a_yaml_value(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", GOOD)
    sets = ["training.optimizer.learning_rate=1e-5", "training.clip_norm=", "tracking.tags={a: b}", "name='007'"]
    spec = load(path, [*sets, "evaluation.steering=off", "objective.steering.boost.layers=[0, 2]"]).spec
    assert spec.training.optimizer.learning_rate == 1e-5
    assert spec.training.clip_norm is None
    assert spec.tracking.tags == {"a": "b"}
    assert spec.name == "007"
    assert spec.evaluation.steering == "off"
    assert spec.objective.steering.boost is not None
    assert spec.objective.steering.boost.layers == (0, 2)


def test_an_override_reaches_into_a_list(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "a.yaml", GOOD), ["data.train.0.source.path=b.jsonl"])
    assert resolved(loaded.spec)["data"]["train"][0]["source"]["path"] == "b.jsonl"
    assert loaded.provenance["data.train.0.source.path"] == "--set"
    assert loaded.provenance["data.train.0.format.kind"] == "a.yaml:7"


def test_the_last_of_two_overrides_wins(tmp_path: Path) -> None:
    assert load(write(tmp_path, "a.yaml", GOOD), ["seed=1", "seed=2"]).spec.seed == 2


@pytest.mark.parametrize("swap", [False, True])
def test_an_override_of_the_kind_clears_the_mapping_in_any_order(tmp_path: Path, swap: bool) -> None:
    sets = ["model.source.kind=local", "model.source.path=here"]
    spec = load(write(tmp_path, "a.yaml", GOOD), sets[::-1] if swap else sets).spec
    assert spec.model.source == LocalModel(kind="local", path="here")


@pytest.mark.parametrize(
    ("override", "path", "what", "fix"),
    [
        ("training.num_step=3", "training.num_step", "unknown key", "num_steps"),
        ("trainin.num_steps=3", "trainin", "unknown key", "training"),
        ("data.train.4.limit=1", "data.train.4.limit", "`data.train` is a list of 1 items", "data.train=[...]"),
        ("data.train.x.limit=1", "data.train.x.limit", "`data.train` is a list of 1 items", "data.train=[...]"),
        ("evaluation.tasks.0.name=x", "evaluation.tasks.0.name", "`evaluation.tasks` is a list of 0 items", "=[...]"),
        ("seed.x=1", "seed", "this value is not allowed", None),
        ("training.num_steps.x=1", "training.num_steps.x", "`training.num_steps` is a single value", None),
        ("training.num_steps=many", "training.num_steps", "this value is not allowed", None),
    ],
)
def test_an_override_that_points_at_nothing_is_reported(
    tmp_path: Path, override: str, path: str, what: str, fix: str | None
) -> None:
    problem = problems(write(tmp_path, "a.yaml", GOOD), [override])[path]
    assert problem.what.startswith(what)
    assert problem.where is not None
    assert problem.where.startswith(f"--set {override.split('=', maxsplit=1)[0]}")
    assert fix is None or fix in (problem.fix or "")


@pytest.mark.parametrize("override", ["training", "=3", "a..b=3", ".a=1"])
def test_an_override_without_a_path_or_a_value_is_reported(tmp_path: Path, override: str) -> None:
    assert "cannot read this override" in problems(write(tmp_path, "a.yaml", GOOD), [override])[""].what


def test_the_environment_is_not_expanded_and_paths_stay_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "elsewhere")
    path = write(tmp_path, "sub/a.yaml", GOOD + "cluster: {storage_path: '${WHERE}/../runs'}\n")
    assert load(path).spec.cluster.storage_path == "${WHERE}/../runs"


def test_the_resolved_json_is_a_config_again(tmp_path: Path) -> None:
    spec = load(write(tmp_path, "a.yaml", GOOD), ["training.optimizer.learning_rate=1e-7"]).spec
    again = load(write(tmp_path, "resolved.json", resolved_json(spec))).spec
    assert again == spec
    assert json.loads(resolved_json(spec))["model"]["lora"] is None


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, "finetune.yaml", GOOD)
    problem = problems(tmp_path / "finetun.yaml")[""]
    assert "finetun.yaml" in problem.what
    assert problem.fix == "did you mean finetune.yaml?"


def test_a_missing_base_is_reported_where_it_is_named(tmp_path: Path) -> None:
    problem = problems(write(tmp_path, "a.yaml", "seed: 1\nextends:\n  - nowhere/b.yaml\n"))[""]
    assert problem.where == "a.yaml:3:5"
    assert problem.fix == "the folder nowhere does not exist"


@pytest.mark.parametrize(
    ("text", "what"), [("", "a config is a mapping"), ("- 1", "a config is a mapping"), ("extends: 3", "cannot extend")]
)
def test_a_file_that_is_no_config_is_reported(tmp_path: Path, text: str, what: str) -> None:
    assert any(problem.what.startswith(what) for problem in problems(write(tmp_path, "a.yaml", text)).values())


def test_a_file_that_is_not_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    assert problems(tmp_path / "a.yaml")[""].what == "not UTF-8 text"
