"""Values mean what a reader of YAML 1.2 expects, and each knows its place."""

from __future__ import annotations

from typing import Any

import pytest

from steerline.config.yaml_nodes import Mapping, parse, plain


def read(text: str) -> Any:
    root, problems = parse(text, "f.yaml")
    assert problems == []
    assert root is not None
    return plain(root)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("3", 3),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("200_000_000", 200_000_000),
        ("-7", -7),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("2026-01-31", "2026-01-31"),
        ("12:30:00", "12:30:00"),
        ("1.2.3", "1.2.3"),
        ("'1e-5'", "1e-5"),
        ('"3"', "3"),
        ("!!str 3", "3"),
        ("!!float 3", 3.0),
    ],
)
def test_a_plain_value_is_read_as_yaml_1_2_reads_it(text: str, value: Any) -> None:
    assert read(f"a: {text}") == {"a": value}
    assert type(read(f"a: {text}")["a"]) is type(value)


def test_an_empty_value_is_null() -> None:
    assert read("a:\nb: 1") == {"a": None, "b": 1}


def test_anchors_and_aliases_repeat_a_value() -> None:
    assert read("a: &x {k: [1, 2]}\nb: *x") == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}}


def test_marks_count_lines_and_columns_from_one() -> None:
    root, _ = parse("a: 1\nb:\n  c: [5,\n    6]\n", "f.yaml")
    assert isinstance(root, Mapping)
    key, b = root.entries["b"]
    assert isinstance(b, Mapping)
    assert (key.line, key.column) == (2, 1)
    assert str(b.entries["c"][0]) == "f.yaml:3:3"
    assert str(b.entries["c"][1].items[1].mark) == "f.yaml:4:5"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("a: 1\na: 2", "a key is given twice", "f.yaml:2:1"),
        ("a: {b: 1, b: 2}", "a key is given twice", "f.yaml:1:11"),
        ("a: .inf", "a number must be finite", "f.yaml:1:4"),
        ("a: .nan", "a number must be finite", "f.yaml:1:4"),
        ("a: 1e999", "a number must be finite", "f.yaml:1:4"),
        ("1: a", "a key must be text", "f.yaml:1:1"),
        ("a: !!python/object/apply:os.system [ls]", "tags are not allowed", "f.yaml:1:4"),
        ("a: !env HOME", "tags are not allowed", "f.yaml:1:4"),
        ("a: !!int x", "a value does not fit its tag", "f.yaml:1:4"),
        ("a: !!bool maybe", "a value does not fit its tag", "f.yaml:1:4"),
        ("b: &x {c: 1}\na:\n  <<: *x", "merge keys are not supported", "f.yaml:3:3"),
        ("a: &x [*x]", "an alias that contains itself", "f.yaml:1:4"),
        ("a: [1, 2", "not valid YAML", "f.yaml:1:9"),
        ("a: 1\n\tb: 2", "not valid YAML", "f.yaml:2:1"),
        ("a: 1\n---\nb: 2", "not valid YAML", "f.yaml:2:1"),
        ("a: *nothing", "not valid YAML", "f.yaml:1:4"),
        ("[" * 5000, "nested too deeply", "f.yaml"),
    ],
)
def test_a_text_that_cannot_be_meant_is_reported_with_its_place(text: str, what: str, where: str) -> None:
    _, problems = parse(text, "f.yaml")
    assert problems
    assert problems[0].what.startswith(what)
    assert problems[0].where == where


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    _, problems = parse("\n".join(lines), "f.yaml")
    assert [problem.what[:9] for problem in problems] == ["more than"]
