"""Examples keep their ids whatever is drawn, and their digest changes with every change of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steerline.config.data import DatasetSpec
from steerline.data.examples import Example
from steerline.data.leakage import overlap
from steerline.data.load import digest, load_all, load_examples
from steerline.errors import DataError


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.jsonl"
    path.write_text("".join(json.dumps({"q": f"question {n}", "a": str(n)}) + "\n" for n in range(50)))
    return path


def _spec(path: Path, **fields: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {
            "source": {"kind": "file", "path": str(path)},
            "format": {"kind": "prompt_answer", "prompt": "{q}\n", "answer": "{a}"},
            **fields,
        }
    )


def test_all_rows_are_kept_in_order_without_a_limit(numbers: Path) -> None:
    for limit in (None, 50, 99):
        examples = load_examples(_spec(numbers, limit=limit))
        assert [example.answer for example in examples] == [str(n) for n in range(50)]


def test_a_limit_draws_rows_that_keep_their_ids(numbers: Path) -> None:
    drawn = load_examples(_spec(numbers, limit=10, seed=1))
    everything = {example.id: example for example in load_examples(_spec(numbers))}
    assert len({example.id for example in drawn}) == 10
    assert all(everything[example.id] == example for example in drawn)
    assert drawn == load_examples(_spec(numbers, limit=10, seed=1))
    assert drawn != load_examples(_spec(numbers, limit=10, seed=2))
    assert [example.answer for example in drawn] != [str(n) for n in range(10)]


def test_sets_of_the_same_name_get_ids_of_their_own(numbers: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "numbers.jsonl"
    other.parent.mkdir()
    other.write_text(numbers.read_text())
    examples = load_all([_spec(numbers), _spec(other, limit=5), _spec(numbers, limit=3)])
    ids = [example.id for example in examples]
    assert len(set(ids)) == len(ids) == 58
    assert ids[0] == "numbers/0"
    assert {id_.split("/")[0] for id_ in ids[50:55]} == {"numbers#2"}
    assert {id_.split("/")[0] for id_ in ids[55:]} == {"numbers#3"}


def test_a_row_in_the_middle_that_does_not_fit_is_named(numbers: Path) -> None:
    lines = numbers.read_text().splitlines()
    lines[30] = json.dumps({"q": "no answer"})
    numbers.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        load_examples(_spec(numbers))
    assert caught.value.where == f"{numbers}:31"


EXAMPLE = Example("a/0", "p", "solution1", ("solution1", "solution2"), 0, ({"role": "user", "content": "ü"},))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "a/1"},
        {"prompt": "q"},
        {"answer": "solution2"},
        {"choices": ("solution1",)},
        {"label": 1},
        {"label": None},
        {"messages": ()},
    ],
)
def test_the_digest_sees_every_field(change: dict[str, Any]) -> None:
    assert digest([EXAMPLE]) != digest([replace(EXAMPLE, **change)])


def test_the_digest_sees_order_and_borders_and_nothing_else() -> None:
    one, two = Example("1", "p", "a"), Example("2", "p", "a")
    assert digest([one, two]) != digest([two, one])
    assert digest([one]) != digest([one, one])
    assert digest([one]) == digest([Example("1", "p", "a")])


def test_the_digest_of_an_example_never_changes() -> None:
    assert digest([EXAMPLE]) == "011405330465f06c3b5c6733cc9fdb38c3d6a93334836a0cd184052a90d70fb4"


def test_questions_asked_in_training_and_in_evaluation_are_found() -> None:
    train = [Example("t/0", "Why  is\nit?", "a"), Example("t/1", "who?", "b"), Example("t/2", "", "some text")]
    tested = [Example("e/0", "why is it? ", "c"), Example("e/1", "when?", "b"), Example("e/2", "", "Some text")]
    found = overlap(train, tested)
    assert found.pairs == (("t/0", "e/0"), ("t/2", "e/2"))
    assert found.share == pytest.approx(2 / 3)
    assert "e/0 (trained as t/0)" in str(found)


def test_no_overlap_says_so() -> None:
    found = overlap([Example("t/0", "a", "")], [Example("e/0", "b", "")])
    assert found.share == 0
    assert str(found) == "none of 1 evaluation examples was trained on"
    assert overlap([], []).share == 0
