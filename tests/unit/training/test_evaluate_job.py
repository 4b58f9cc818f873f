"""An evaluation's results, comparisons and figures, from a tiny model and without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from steerline.config.evaluate import EvaluateSpec
from steerline.config.load import load
from steerline.data.examples import Example
from steerline.evaluation.compare import compare
from steerline.evaluation.results import EvaluationResult
from steerline.evaluation.statistics import holm
from steerline.training.evaluate_job import comparisons, evaluate_and_record

CONFIG = """\
kind: evaluate
name: tiny
model:
  source: {kind: random, architecture: llama, overrides: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2,
           num_attention_heads: 4, num_key_value_heads: 2}}
steering:
  boost: {fraction: 0.5, scale: 50.0, active_in: both}
strengths: [0.5, 4.0]
evaluation:
  num_bootstrap: 100
  tasks:
    - name: words
      dataset:
        source: {kind: file, path: words.jsonl}
        format: {kind: prompt_answer, prompt: "{p}", answer: "{a}"}
"""
EXAMPLES = [Example(f"e{i}", f"question {i} ", "ab", choices=("ab", "cd", "ef"), label=i % 3) for i in range(12)]


@pytest.fixture(autouse=True)
def items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steerline.evaluation.many_strengths.load_examples", lambda _: EXAMPLES)


def job(folder: Path, *overrides: str) -> EvaluateSpec:
    path = folder / "job.yaml"
    path.write_text(CONFIG)
    return load(path, overrides).of(EvaluateSpec).spec


def test_every_strength_leaves_its_items_and_its_metrics(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = evaluate_and_record(job(tmp_path), tmp_path, said.append)
    assert set(outcome.files) == {"evaluation_plain", "evaluation_strength_0.5", "evaluation_strength_4"}
    plain, steered = (
        EvaluationResult.load(Path(outcome.files[f"evaluation_{name}"])) for name in ("plain", "strength_4")
    )
    assert plain != steered
    assert outcome.metrics["eval_plain/words/accuracy"] == plain.accuracy(plain.task("words")).mean
    assert outcome.metrics["eval/strength_4/words/accuracy"] == steered.accuracy(steered.task("words")).mean
    assert any(line.startswith("steerline: strength 4: words") for line in said)


def test_one_steering_has_the_names_of_a_runs_own_evaluation(tmp_path: Path) -> None:
    outcome = evaluate_and_record(job(tmp_path, "strengths=[]"), tmp_path, lambda _: None)
    assert set(outcome.files) == {"evaluation", "evaluation_plain"}
    assert {"eval/words/accuracy", "eval_plain/words/accuracy"} <= set(outcome.metrics)


def test_without_a_steering_the_plain_model_is_the_evaluation(tmp_path: Path) -> None:
    outcome = evaluate_and_record(job(tmp_path, "steering.boost=null", "strengths=[]"), tmp_path, lambda _: None)
    assert set(outcome.files) == {"evaluation"}
    assert "eval/words/accuracy" in outcome.metrics


def test_holm_corrects_over_all_tasks_of_all_points(tmp_path: Path) -> None:
    outcome = evaluate_and_record(job(tmp_path), tmp_path, lambda _: None)
    results = {name: EvaluationResult.load(Path(path)) for name, path in outcome.files.items()}
    plain = results.pop("evaluation_plain")
    found = comparisons(plain, results)
    alone = [compare(plain, result).rows[0].test.p_value for result in results.values()]
    assert [comparison.rows[0].p_holm for comparison in found.values()] == list(holm(alone))
