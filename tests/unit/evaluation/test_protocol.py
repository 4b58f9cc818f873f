from __future__ import annotations

from typing import Any

import pytest

from steerline.config.data import DatasetSpec
from steerline.data.examples import Example
from steerline.evaluation.protocol import Protocol, first_letter, first_option, judge, protocol_of

CHOICE = Example("1", "q\n", "the correct answer is true", ("true", "false"), 0)
FREE = Example("2", "q\n", " Paris ")


def dataset(fmt: dict[str, Any]) -> DatasetSpec:
    return DatasetSpec.model_validate({"source": {"kind": "file", "path": "x.jsonl"}, "format": fmt})


@pytest.mark.parametrize(
    ("fmt", "examples", "expected"),
    [
        ({"kind": "task", "task": "gsm8k"}, [FREE], Protocol("number", stop_at_newline=False)),
        ({"kind": "task", "task": "aqua"}, [CHOICE], Protocol("letter", stop_at_newline=False)),
        ({"kind": "task", "task": "boolq"}, [CHOICE], Protocol("option", stop_at_newline=True)),
        ({"kind": "prompt_answer", "prompt": "{q}", "answer": "{a}"}, [FREE], Protocol("exact", stop_at_newline=True)),
        (
            {"kind": "prompt_answer", "prompt": "{q}", "answer": "{a}"},
            [Example("3", "q", "two\nlines")],
            Protocol("exact", stop_at_newline=False),
        ),
    ],
)
def test_protocol_follows_the_task(fmt: dict[str, Any], examples: list[Example], expected: Protocol) -> None:
    assert protocol_of(dataset(fmt), examples) == expected


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (C).", "C"),
        ("A train takes 3 h, so B is wrong.\nThe final answer is: D", "D"),
        ("B", "B"),
        ("D) 12", "D"),
        ("C4", "C"),
        ("Because it is", "B"),
        ("The Answer is E", "E"),
        ("so F", ""),
        ("", ""),
    ],
)
def test_first_letter_named_as_the_answer_or_standing_alone(text: str, letter: str) -> None:
    assert first_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "options", "found"),
    [
        ("the correct answer is False", ("true", "false"), "false"),
        ("false, not true", ("true", "false"), "false"),
        ("untrue", ("true", "false"), ""),
        ("solution10", ("solution1", "solution10"), "solution10"),
        ("New York City", ("New York", "New York City"), "New York City"),
        ("C++ it is", ("C", "C++"), "C++"),
        ("", ("a", "b"), ""),
    ],
)
def test_first_option_named_in_the_text(text: str, options: tuple[str, ...], found: str) -> None:
    assert first_option(text, options) == found


def test_option_is_judged_against_the_label() -> None:
    assert judge("the correct answer is true", CHOICE, "option").correct
    verdict = judge("the correct answer is false", CHOICE, "option")
    assert (verdict.prediction, verdict.answer, verdict.correct) == ("false", "true", False)
    assert not judge("who knows", CHOICE, "option").correct


def test_number_is_judged_with_the_same_reading_of_both_sides() -> None:
    example = Example("4", "q\n", "3 + 4 = 7, so\n#### 7")
    assert judge("she has 7.00.", example, "number").correct
    assert judge("she has 8", example, "number").prediction == "8"
    assert judge("none", example, "number").prediction == ""
    large = Example("5", "q\n", "12345678")
    assert judge("12345678", large, "number").prediction == "12345678"


def test_letter_is_judged_against_the_right_choice() -> None:
    example = Example("6", "q\n", "some reasoning\nB", ("A", "B", "C", "D", "E"), 1)
    assert judge("The answer is B.", example, "letter").correct
    assert not judge("none of them", example, "letter").correct


def test_exact_match_strips_whitespace_only() -> None:
    assert judge("Paris\n", FREE, "exact").correct
    assert not judge("paris", FREE, "exact").correct
