"""Regular expressions from strangers: those that could keep a host busy for ever are told from the others."""

from __future__ import annotations

import pytest

from steerline.serving.patterns import MOST_WAYS, ways


@pytest.mark.parametrize(
    "pattern",
    [
        "kill|attack",
        r"(?i)\bvote\b.*",
        r"\w{1,30}\s{1,3}\w{1,30}",
        "(?:ab)*",
        "[^a]+?b",
        r"(a)?(?(1)b|c)\1",
        "(?<=a)b(?!c)",
        "(?>ab)*+",
    ],
)
def test_patterns_that_end_soon_on_every_text_pass(pattern: str) -> None:
    assert ways(pattern) <= MOST_WAYS


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "((a+)c?)+$",
        "(a|aa)+$",
        "(?:a?){40}a",
        ".*.*x",
        "(?=(a*)b)a*",
        "(?:(?:a{0,100}){0,100}){0,100}",
        "(?:" * 20 + "a*" + ")*" * 20,
        "(?P<x>a|ab)*?$",
    ],
)
def test_patterns_that_may_try_for_ever_do_not(pattern: str) -> None:
    assert ways(pattern) > MOST_WAYS
