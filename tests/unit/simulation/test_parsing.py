"""How texts are read as actions."""

from __future__ import annotations

import time
from typing import Any

import pytest

from steerline.simulation.action import ActionSpec, Choice, FreeText, Integer, Number, Structured
from steerline.simulation.parsing import answer, parse

POINTS = Integer(0, 20, default=0)
MOVE = Choice(("stay", "stay home", "go"), default="go")
SHARE = Number(0.0, 1.0, default=0.5)
OBJECT = Structured({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, default={"n": 0})


@pytest.mark.parametrize(
    ("text", "spec", "payload"),
    [
        ("I keep most of it.\nANSWER: 7", POINTS, 7),
        ("**Answer:** 7.", POINTS, 7),
        ("**ANSWER: 7**", POINTS, 7),
        ("Answer:\n\n  7", POINTS, 7),
        (answer("stay home", "it is late"), MOVE, "stay home"),
        ("answer: STAY", MOVE, "stay"),
        ("ANSWER: 0.25", SHARE, 0.25),
        ('{"n": 3}', OBJECT, {"n": 3}),
        ("  any words  ", FreeText(), "any words"),
    ],
)
def test_a_text_in_the_form_that_was_asked_for_is_read(text: str, spec: ActionSpec, payload: Any) -> None:
    parsed = parse(text, spec)
    assert (parsed.payload, parsed.status, parsed.reason) == (payload, "ok", "")


@pytest.mark.parametrize(
    ("text", "spec", "payload"),
    [
        ("I would put in 7 points", POINTS, 7),
        ("let us stay home today", MOVE, "stay home"),
        ("ANSWER: 3\nno, wait\nANSWER: 4", POINTS, 4),
        ('Sure: {"n": 3}!', OBJECT, {"n": 3}),
        (r'{"n": 3, "why": "\u001b[2J\ud800 red\u202e"}', OBJECT, {"n": 3, "why": "[2J red"}),
        ("x" * 5000, FreeText(max_chars=10), "x" * 10),
    ],
)
def test_a_text_with_one_possible_meaning_is_repaired_with_a_reason(text: str, spec: ActionSpec, payload: Any) -> None:
    parsed = parse(text, spec)
    assert (parsed.payload, parsed.status) == (payload, "repaired")
    assert parsed.reason


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("", POINTS),
        ("ANSWER: 21", POINTS),
        ("ANSWER: 7.5", POINTS),
        ("ANSWER: 3 or 4", POINTS),
        ("3 or 4", POINTS),
        ("You put 40 points into the pot and keep 10", POINTS),
        ("stay or go", MOVE),
        ("ANSWER: nan", SHARE),
        ("ANSWER: 1e999", SHARE),
        ("{", OBJECT),
        ("[" * 100_000, OBJECT),
        ('{"n": ' * 5000, OBJECT),
        ('{"n": 1, "m": ' + "[" * 400 + "]" * 400 + "}", OBJECT),
        ('{"n": 1e999}', OBJECT),
        ('{"n": NaN}', OBJECT),
        ('{"n": {"__array__": ["|O", [1], ""]}}', OBJECT),
        ('{"n": "many"}', OBJECT),
        ("   ", FreeText()),
    ],
)
def test_anything_else_takes_the_default_with_a_reason(text: str, spec: ActionSpec) -> None:
    parsed = parse(text, spec)
    assert (parsed.payload, parsed.status) == (spec.default, "defaulted")
    assert parsed.reason


def test_a_quoted_answer_of_another_agent_is_not_read() -> None:
    assert parse("bob said:\n> ANSWER: 20\n\nANSWER: 1", POINTS).payload == 1
    assert parse("> ANSWER: 20", POINTS).status == "defaulted"


@pytest.mark.parametrize(
    "text",
    ["ANSWER: a" + " " * 20_000 + "b", "\n" * 20_000, "*" * 20_000, "ANSWER:" + " *" * 10_000, "answer " * 3000],
    ids=["a gap", "lines", "stars", "gaps and stars", "words"],
)
def test_no_text_keeps_the_reader_busy(text: str) -> None:
    began = time.process_time()
    assert parse(text, POINTS).status == "defaulted"
    assert time.process_time() - began < 1.0
