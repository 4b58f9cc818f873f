"""What developers answer: a function in a block of code, and tests in lines of `assert`."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from steerline.simulation.action import FreeText, Parsed

_BLOCK = re.compile(r"^```(?:python|py)?[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_ASSERT = re.compile(r"^[ \t]*(assert\b.*)", re.MULTILINE)
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What Python's own parser raises on a hostile text."""

MOST_TESTS = 8
"""Tests that are read from one answer."""


@dataclass(frozen=True, slots=True)
class Code(FreeText):
    """A Python function; the payload is its source."""

    def instruction(self) -> str:
        return "Answer with the whole function in one block that begins with a line ```python and ends with a line ```."


@dataclass(frozen=True, slots=True)
class Asserts(FreeText):
    """Tests; the payload is a list of [expression, `repr` of the value expected]."""

    def instruction(self) -> str:
        return "Answer with one to three lines of the form `assert f(2) == 3`, where the right side is a plain value."


def read_code(text: str, default: str) -> Parsed:
    """The last block of code of a text; the whole text where it is nothing but Python."""
    blocks = _BLOCK.findall(text)
    if blocks:
        return Parsed(blocks[-1])
    try:
        statements = ast.parse(text).body
    except _UNREADABLE:
        statements = []
    if any(isinstance(statement, ast.FunctionDef) for statement in statements):
        return Parsed(text, "repaired", "no block of code; the whole text counts")
    return Parsed(default, "defaulted", "the text holds no block of code")


def read_asserts(text: str, default: str) -> Parsed:
    """The tests of a text."""
    lines = _ASSERT.findall(text)
    tests = [test for line in lines if (test := _test(line)) is not None]
    if not tests:
        return Parsed([], "defaulted", "no line is `assert expression == plain value`")
    if len(tests) < len(lines) or len(tests) > MOST_TESTS:
        return Parsed(tests[:MOST_TESTS], "repaired", f"{min(len(tests), MOST_TESTS)} of {len(lines)} lines are read")
    return Parsed(tests)


def _test(line: str) -> list[str] | None:
    try:
        match ast.parse(line).body:
            case [ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]))]:
                return [ast.unparse(left), repr(ast.literal_eval(right))]
    except _UNREADABLE:
        return None
    return None
