"""What the config alone is judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.orchestration.preflight_scenes import find, job, model_folder, only


@pytest.mark.parametrize(("workers", "rows", "micro"), [(1, 8, 2), (2, 8, 4), (4, 8, 2), (2, 64, 4)])
def test_a_batch_of_whole_micro_batches_passes(tmp_path: Path, workers: int, rows: int, micro: int) -> None:
    spec = job(
        tmp_path,
        f"cluster.num_workers={workers}",
        f"training.global_batch_size={rows}",
        f"training.micro_batch_size={micro}",
    )
    assert find("batch", spec) == []


def test_an_impossible_batch_names_numbers_that_work(tmp_path: Path) -> None:
    spec = job(tmp_path, "cluster.num_workers=3", "training.global_batch_size=18")
    assert find("batch", spec) == []
    text = only(find("batch", job(tmp_path, "cluster.num_workers=6", "training.global_batch_size=18")), fatal=True)
    assert "18 rows cannot be shared by 6 workers in whole micro batches of 2" in text
    assert "`training.global_batch_size` a multiple of 12, e.g. 24" in text
    assert "`training.micro_batch_size` one of [1, 3]" in text
    assert "`cluster.num_workers` one of [1, 3, 9]" in text


@pytest.mark.parametrize(
    "fix", ["training.global_batch_size=24", "training.micro_batch_size=3", "cluster.num_workers=9"]
)
def test_each_number_that_is_named_does_work(tmp_path: Path, fix: str) -> None:
    spec = job(tmp_path, "cluster.num_workers=6", "training.global_batch_size=18", fix)
    assert find("batch", spec) == []


def test_a_warm_up_longer_than_the_run_is_a_warning(tmp_path: Path) -> None:
    assert find("schedule", job(tmp_path)) == []
    text = only(find("schedule", job(tmp_path, "training.num_steps=40")), fatal=False)
    assert "100 of 40 steps; it reaches 2e-05 of 5e-05" in text
    assert "training.schedule.warmup_steps" in text
    spec = job(tmp_path, "objective.steering.entropy={strength: 0.05, schedule: {warmup_steps: 200}}")
    assert "objective.steering.entropy.schedule.warmup_steps" in only(find("schedule", spec), fatal=False)
    assert find("schedule", job(tmp_path, "training.num_steps=null", "training.num_epochs=1")) == []


@pytest.mark.parametrize(
    ("boost", "warned"),
    [
        ("{}", True),
        ("{strength: 0}", False),
        ("{select: magnitude}", False),
        ("{mean: abs}", False),
        ("{control: random_keys}", False),
    ],
)
def test_the_literal_reading_is_warned_of_with_the_reason(tmp_path: Path, boost: str, warned: bool) -> None:
    found = find("steering", job(tmp_path, f"objective.steering.boost={boost}"))
    if warned:
        assert "3.295 to 10.206" in only(found, fatal=False)
    else:
        assert found == []


def test_layers_beyond_the_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERLINE_CACHE", str(tmp_path / "empty"))
    good = "objective.steering.entropy.layers=[0, 1]"
    assert find("steering", job(tmp_path, good)) == []
    text = only(find("steering", job(tmp_path, "objective.steering.entropy.layers=[1, 2, 7]")), fatal=True)
    assert "the model has 2 layers" in text
    assert "layers [2, 7]" in text
    local = f"model.source={{kind: local, path: {model_folder(tmp_path / 'm')}}}"
    text = only(find("steering", job(tmp_path, local, "objective.steering.entropy.layers=[3, 4]")), fatal=True)
    assert "the model has 4 layers" in text
    unknown = "model.source={kind: packaged, name: smollm2-135m-instruct}"
    assert find("steering", job(tmp_path, unknown, "objective.steering.entropy.layers=[999]")) == []


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        (["zero={stage: 2, offload_optimizer: true}"], "zero.offload_optimizer"),
        (["zero={stage: 3, offload_parameters: true}"], "zero.offload_parameters"),
        (["training.heldout_every_steps=5"], "training.heldout_every_steps"),
        (["evaluation.steering='on'"], "evaluation.steering"),
        (["training.keep_checkpoints=1"], "training.keep_checkpoints"),
    ],
)
def test_a_setting_without_effect_is_warned_of(tmp_path: Path, overrides: list[str], path: str) -> None:
    (finding,) = find("no-effect", job(tmp_path, *overrides))
    assert (finding.problem.path, finding.fatal) == (path, False)


def test_a_setting_with_effect_is_not_warned_of(tmp_path: Path) -> None:
    assert find("no-effect", job(tmp_path)) == []
    on_gpu = ["zero={stage: 3, offload_parameters: true, offload_optimizer: true}", "cluster.use_gpu=true"]
    assert find("no-effect", job(tmp_path, *on_gpu)) == []


def test_judging_by_rows_that_were_trained_on_is_warned_of(tmp_path: Path) -> None:
    other = "data.heldout=[{source: {kind: file, path: x.jsonl}, format: {kind: text}}]"
    assert find("leakage", job(tmp_path, other)) == []
    same = "data.heldout=[{source: {kind: synthetic, generator: arithmetic, size: 8}, format: {kind: text}, seed: 3}]"
    assert "the same source as data.train.0" in only(find("leakage", job(tmp_path, same)), fatal=False)


def test_remote_code_is_warned_of(tmp_path: Path) -> None:
    assert find("remote-code", job(tmp_path)) == []
    assert "will run on every worker" in only(
        find("remote-code", job(tmp_path, "model.trust_remote_code=true")), fatal=False
    )
