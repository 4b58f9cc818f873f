"""Reads an agent's text as the action that was asked for. Models and scripted policies pass here alike."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from jsonschema import Draft202012Validator

from steerline.errors import SimulationError
from steerline.simulation.action import (
    ActionSpec,
    Choice,
    FreeText,
    Integer,
    Number,
    Parsed,
    Structured,
)
from steerline.simulation.canonical import ARRAY_KEY, check_plain
from steerline.simulation.text import cleaned_data, unquoted

# Possessive, so that no text makes it go back: a hostile one would stop everybody who shares the process.
_ANSWER = re.compile(r"^[ \t]*+\**+answer\**+\s*+[:=]\s*+\**+\s*+(.*)", re.IGNORECASE | re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w]|\.\d)")
_MOST_LEVELS = 64
"""Levels of JSON beyond which it is read as nothing."""


def parse(text: str, spec: ActionSpec) -> Parsed:
    """Read a text.

    Choices and numbers stand in a line `ANSWER: x`; the last such line counts. Without one, a text that names one
    value, and that a legal one, is read as that value (repaired); anything else takes the default (defaulted). Lines
    that quote others (`> ...`) are never read.

    Returns:
        the payload, how it was read, and why where it was not read as asked for.
    """
    own = unquoted(text)
    match spec:
        case FreeText():
            return _free_text(own.strip(), spec)
        case Structured():
            return _structured(own, spec)
        case Choice():
            return _valued(own, lambda part: _options(part, spec), spec.default, numeric=False)
        case Integer():
            return _valued(own, lambda part: _integers(part, spec), spec.default)
        case Number():
            return _valued(own, lambda part: _numbers(part, spec), spec.default)


def answer(value: object, reasoning: str = "") -> str:
    """The text that says a choice or number, as a scripted policy writes it."""
    return f"{reasoning}\nANSWER: {value}".lstrip()


def _free_text(text: str, spec: FreeText) -> Parsed:
    if not text:
        return Parsed(spec.default, "defaulted", "the text is empty")
    if len(text) > spec.max_chars:
        return Parsed(text[: spec.max_chars], "repaired", f"cut at {spec.max_chars} characters")
    return Parsed(text)


def _valued(text: str, values: Callable[[str], list[Any]], default: Any, *, numeric: bool = True) -> Parsed:
    answers = [said.rstrip().removesuffix(".").rstrip("* \t") for said in _ANSWER.findall(text)]
    if answers:
        found = values(answers[-1])
        if len(found) == 1:
            several = len({part.casefold() for part in answers}) > 1
            return Parsed(found[0], "repaired", "several answers; the last counts") if several else Parsed(found[0])
        return Parsed(default, "defaulted", f"the answer {answers[-1][:80]!r} is not legal")
    found = values(text)
    distinct = list(dict.fromkeys(found))
    # A number beside it, legal or not, leaves open which one was meant.
    others = numeric and len({float(number) for number in _NUMBER.findall(text)}) > 1
    if len(distinct) == 1 and not others:
        return Parsed(distinct[0], "repaired", "no line `ANSWER:`; the only legal value counts")
    what = "no legal value" if not found else "several legal values" if len(distinct) > 1 else "other numbers too"
    return Parsed(default, "defaulted", f"no line `ANSWER:`, and the text names {what}")


def _options(text: str, spec: Choice) -> list[str]:
    exact = [option for option in spec.options if option.casefold() == text.strip().casefold()]
    if exact:
        return exact
    named = [o for o in spec.options if re.search(rf"(?<!\w){re.escape(o)}(?!\w)", text, re.IGNORECASE)]
    # `stay home` names `stay home`, not also `stay`.
    return [o for o in named if not any(o != other and o.casefold() in other.casefold() for other in named)]


def _numbers(text: str, spec: Number | Integer) -> list[float]:
    found = [float(number) for number in _NUMBER.findall(text)]
    return [number for number in found if math.isfinite(number) and spec.low <= number <= spec.high]


def _integers(text: str, spec: Integer) -> list[int]:
    return [int(number) for number in _numbers(text, spec) if number.is_integer()]


def _structured(text: str, spec: Structured) -> Parsed:
    why: list[str] = []
    try:
        found = _json(text)
    except ValueError:
        why.append("text around the JSON was left out")
        try:
            found = _json(text[text.find("{") : text.rfind("}") + 1])
        except ValueError as error:
            return Parsed(spec.default, "defaulted", f"the text holds no JSON object: {error}"[:200])
    payload = cleaned_data(found)
    if payload != found:
        why.append("characters that are no text were taken out")
    problem = next(Draft202012Validator(spec.schema).iter_errors(payload), None)
    if problem is not None:
        return Parsed(spec.default, "defaulted", f"the JSON does not fit: {problem.message}"[:200])
    return Parsed(payload, "repaired" if why else "ok", "; ".join(why))


def _json(text: str) -> Any:
    """Plain data from JSON.

    Raises:
        ValueError: it is no JSON, is nested without end, holds a number that is not finite, or a name of ours.
    """
    if ARRAY_KEY in text:
        raise ValueError(f"the name {ARRAY_KEY} is not allowed")
    try:
        value = json.loads(text)
        if not _is_flat(value, _MOST_LEVELS):
            raise ValueError("it is nested too deeply")
        check_plain(value, "the JSON")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except SimulationError as error:
        raise ValueError(error.what) from error
    return value


def _is_flat(value: Any, levels: int) -> bool:
    """Whether data are nested in no more than so many levels."""
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_flat(item, levels - 1) for item in items)
