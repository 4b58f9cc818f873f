"""Every task reads every layout it comes in, and asks in the words of the published protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import datasets
import pytest

from steerline.config.data import DatasetSpec, TaskName
from steerline.data.load import load_examples
from steerline.data.rows import Row
from steerline.data.tasks.numeric import number_text
from steerline.data.tasks.table import TASKS
from steerline.errors import DataError
from tests.unit.data.task_rows import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.task}-{case.layout}")
def test_a_row_becomes_the_published_prompt_and_answer(case: Case) -> None:
    example = TASKS[case.task](case.row, "x/0", "here")
    assert example.prompt == case.prompt
    assert example.answer == case.answer
    if example.choices:
        assert example.label is not None
        assert example.answer.endswith(example.choices[example.label])
    else:
        assert example.label is None


def test_every_task_has_an_entry_and_a_case() -> None:
    assert set(TASKS) == set(get_args(TaskName)) == {case.task for case in CASES}


@pytest.mark.parametrize("case", [case for case in CASES if case.layout.startswith("hub")], ids=lambda case: case.task)
def test_local_copies_of_hub_sets_load_through_the_hub_reader(case: Case, tmp_path: Path, hub_cache: Path) -> None:
    folder = tmp_path / case.task
    folder.mkdir()
    datasets.Dataset.from_list([case.row, case.row]).to_parquet(folder / "validation.parquet")
    spec = DatasetSpec.model_validate(
        {
            "source": {"kind": "hub", "id": str(folder), "split": "validation"},
            "format": {"kind": "task", "task": case.task},
        }
    )
    examples = load_examples(spec)
    assert hub_cache.exists()
    assert [example.prompt for example in examples] == [case.prompt] * 2
    assert [example.answer for example in examples] == [case.answer] * 2
    assert [example.id for example in examples] == [f"{case.task}-validation/0", f"{case.task}-validation/1"]


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("piqa", {"label": -1}),
        ("hellaswag", {"label": ""}),
        ("winogrande", {"answer": ""}),
        ("social_i_qa", {"label": "4"}),
        ("arc_easy", {"answerKey": "E"}),
        ("boolq", {"answer": "yes"}),
        ("gsm8k", {"answer": "seven"}),
        ("aqua", {"correct": "F"}),
        ("aqua", {"options": ["no letter"]}),
        ("mawps", {"Numbers": "3.0"}),
        ("svamp", {"Answer": None}),
        ("svamp", {"Body": 5}),
    ],
)
def test_a_row_without_a_usable_answer_is_named(task: TaskName, change: Row) -> None:
    row = next(case.row for case in CASES if case.task == task)
    with pytest.raises(DataError) as caught:
        TASKS[task]({**row, **change}, "x/0", "data.jsonl:12")
    assert caught.value.where == "data.jsonl:12"
    assert repr(next(iter(change))).strip("'") in str(caught.value)


def test_missing_columns_are_answered_with_what_there_is_and_every_layout_that_would_do() -> None:
    with pytest.raises(DataError) as caught:
        TASKS["arc_easy"]({"question": "What?", "choices": {}, "answer_key": "A"}, "x/0", "data.jsonl:3")
    message = str(caught.value)
    assert "no column `answerKey`" in message
    assert "answer_key, choices, question" in message
    assert "use `answer_key`" in message
    assert "{query, choices, gold}" in message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (43.0, "43"),
        (39, "39"),
        ("9 (apples)", "9"),
        ("1,200", "1200"),
        (" -3.50 ", "-3.5"),
        ([0.5], "0.5"),
        (0.1 + 0.2, "0.3"),
        ("3:4", "3:4"),
        ("5/2", "5/2"),
        ("Red (team)", "Red"),
    ],
)
def test_gold_numbers_are_written_one_way(value: object, text: str) -> None:
    assert number_text(value, "answer") == text


def test_examples_of_a_task_survive_json(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    case = CASES[0]
    path.write_text(json.dumps(case.row) + "\n")
    spec = DatasetSpec.model_validate(
        {"source": {"kind": "file", "path": str(path)}, "format": {"kind": "task", "task": case.task}}
    )
    assert load_examples(spec)[0].prompt == case.prompt
