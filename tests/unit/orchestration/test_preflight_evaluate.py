"""What can be known before an evaluation starts."""

from __future__ import annotations

from pathlib import Path

from steerline.config.evaluate import EvaluateSpec
from steerline.config.load import load
from steerline.orchestration.preflight import Finding, preflight
from steerline.orchestration.preflight.evaluate import EVALUATE_CHECKS, EvaluateScene
from tests.unit.orchestration.preflight_scenes import nodes, only

CONFIG = """\
kind: evaluate
name: tiny
model:
  source: {kind: random, architecture: llama, overrides: {num_hidden_layers: 2}}
steering:
  boost: {active_in: both}
evaluation:
  tasks:
    - name: sums
      method: generate
      dataset:
        source: {kind: synthetic, generator: arithmetic, size: 8}
        format: {kind: task, task: arithmetic}
"""


def job(folder: Path, *overrides: str) -> EvaluateSpec:
    path = folder / "job.yaml"
    path.write_text(CONFIG)
    return load(path, overrides).of(EvaluateSpec).spec


def find(check: str, spec: EvaluateSpec) -> list[Finding]:
    (chosen,) = (known for known in EVALUATE_CHECKS if known.id == check)
    return list(chosen.findings(EvaluateScene(spec), elsewhere=False))


def test_layers_that_the_model_does_not_have_are_named(tmp_path: Path) -> None:
    assert find("steering", job(tmp_path, "steering.boost.layers=[1]")) == []
    found = only(find("steering", job(tmp_path, "steering.boost.layers=[1, 2]")), fatal=True)
    assert "steering.boost.layers" in found
    assert "layers [2]" in found


def test_terms_of_a_training_loss_do_nothing_here(tmp_path: Path) -> None:
    assert find("no-effect", job(tmp_path)) == []
    assert "steering.entropy" in only(find("no-effect", job(tmp_path, "steering.entropy={}")), fatal=False)


def test_a_task_whose_file_is_missing_is_found(tmp_path: Path) -> None:
    found = find("data", job(tmp_path, "evaluation.tasks.0.dataset.source={kind: file, path: gone.jsonl}"))
    assert "evaluation.tasks.0.dataset.source.path" in only(found, fatal=True)


def test_an_evaluation_passes_on_a_cluster_that_holds_its_worker(tmp_path: Path) -> None:
    spec = job(tmp_path, f"cluster.storage_path={tmp_path}", f"tracking.uri={tmp_path}")
    assert preflight(spec, cluster=nodes((2, 0)), environment={}).problems == ()
    report = preflight(
        spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"cpus_per_worker": 4})}),
        cluster=nodes((2, 0)),
        environment={},
    )
    assert [finding.check for finding in report.problems] == ["workers"]
