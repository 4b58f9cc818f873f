from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from steerline.errors import EvaluationError
from steerline.evaluation.results import EvaluationResult, ItemResult, merge
from tests.unit.evaluation.build import result, task


def test_json_round_trip_keeps_everything(tmp_path: Path) -> None:
    full = result(task("boolq", [1, 0, 1]), task("svamp", [0, 1], group="ood"))
    odd = ItemResult(3, "ümlaut", "7", "8", False, (), "line one\nline two")
    full = replace(full, tasks=(replace(full.tasks[0], items=(*full.tasks[0].items, odd), chance=None), full.tasks[1]))
    full.save(tmp_path / "evaluation.json")
    assert EvaluationResult.load(tmp_path / "evaluation.json") == full


def test_json_states_the_accuracies_for_readers() -> None:
    document = json.loads(result(task("boolq", [1, 0, 1, 1])).to_json())
    assert document["accuracy"]["boolq"]["mean"] == 0.75
    assert document["group_accuracy"]["id"]["low"] < 0.75


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "other"}', '{"format": "steerline-evaluation/1"}'])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match="not an evaluation result") as caught:
        EvaluationResult.load(path)
    assert caught.value.where == str(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read"):
        EvaluationResult.load(tmp_path / "none.json")


def test_merge_restores_the_order_of_items() -> None:
    whole = result(task("a", [1, 0, 1, 1, 0]))
    shares = [
        result(task("a", [0, 1], indices=[1, 3], num_items=5)),
        result(task("a", [1, 1, 0], indices=[0, 2, 4], num_items=5)),
    ]
    assert merge(shares) == whole
    assert whole.tasks[0].complete
    assert not shares[0].tasks[0].complete


def test_merge_accepts_a_worker_without_items() -> None:
    whole = result(task("a", [1]))
    assert merge([whole, result(task("a", [], num_items=1))]) == whole


def test_merge_refuses_missing_and_doubled_items() -> None:
    share = result(task("a", [1, 1], indices=[0, 2], num_items=4))
    with pytest.raises(EvaluationError) as caught:
        merge([share, result(task("a", [1], indices=[2], num_items=4))])
    assert caught.value.got == "missing items 1, 3; doubled items 2"


def test_merge_refuses_shares_of_different_data() -> None:
    with pytest.raises(EvaluationError, match="different evaluations"):
        merge(
            [
                result(task("a", [1], indices=[0], num_items=2)),
                result(task("a", [1], indices=[1], num_items=2, digest="d1")),
            ]
        )
    with pytest.raises(EvaluationError, match="nothing to merge"):
        merge([])


def test_group_accuracy_is_the_mean_of_tasks_not_of_items() -> None:
    evaluation = result(task("a", [1, 1, 1, 1, 1, 1, 1, 0]), task("b", [0, 0]), task("c", [1], group="ood"))
    assert evaluation.group_accuracy("id").mean == pytest.approx((7 / 8 + 0) / 2)
    assert evaluation.groups == ("id", "ood")
    assert evaluation.num_items == 11


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(EvaluationError, match="no such task") as caught:
        result(task("a", [1])).task("b")
    assert caught.value.expected == "a"


def test_merge_refuses_one_worker_twice() -> None:
    whole = result(task("a", [1, 0]))
    with pytest.raises(EvaluationError) as caught:
        merge([whole, whole])
    assert caught.value.got == "missing items none; doubled items 0, 1"
