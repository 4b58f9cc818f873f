"""How a generated text is read as an answer, by kind of task (the LLM-Adapters and ReFT protocols)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from steerline.config.data import DatasetSpec, TaskFormat
from steerline.data.examples import Example
from steerline.evaluation.numbers import last_number, same_number

Answer = Literal["option", "number", "letter", "exact"]

# Tasks answered with a number after free reasoning; AQuA with a letter; the others with the word of an option.
_NUMBER_TASKS = frozenset({"gsm8k", "addsub", "singleeq", "multiarith", "mawps", "svamp", "asdiv", "arithmetic"})
_LETTER_TASKS = frozenset({"aqua"})


@dataclass(frozen=True)
class Protocol:
    """How to read an answer, and whether a line break ends it: reasoning has several lines, an option has one."""

    answer: Answer
    stop_at_newline: bool


@dataclass(frozen=True)
class Verdict:
    """A generated text, read: the answer found (empty where none was), the right one, and whether they agree."""

    prediction: str
    answer: str
    correct: bool


def protocol_of(dataset: DatasetSpec, examples: Sequence[Example]) -> Protocol:
    """The protocol of a data set: by its task's name if it has one, else option words if items have choices."""
    task = dataset.format.task if isinstance(dataset.format, TaskFormat) else None
    if task in _NUMBER_TASKS:
        return Protocol("number", stop_at_newline=False)
    if task in _LETTER_TASKS:
        return Protocol("letter", stop_at_newline=False)
    if all(example.choices for example in examples):
        return Protocol("option", stop_at_newline=True)
    return Protocol("exact", stop_at_newline=not any("\n" in example.answer.strip() for example in examples))


def judge(text: str, example: Example, answer: Answer) -> Verdict:
    """Read `text` as an answer to `example`."""
    if answer == "number":
        return _judge_number(text, example)
    gold = _gold(example)
    if answer == "letter":
        prediction = first_letter(text)
        return Verdict(prediction, first_letter(gold), prediction == first_letter(gold) != "")
    if answer == "option":
        prediction = first_option(text, example.choices)
        return Verdict(prediction, gold, prediction == gold)
    return Verdict(text.strip(), gold.strip(), text.strip() == gold.strip())


def _gold(example: Example) -> str:
    return example.answer if example.label is None else example.choices[example.label]


def _judge_number(text: str, example: Example) -> Verdict:
    found, gold = last_number(text), last_number(example.answer)
    correct = found is not None and gold is not None and same_number(found, gold)
    return Verdict(_number_text(found), _number_text(gold), correct)


def _number_text(number: float | None) -> str:
    return "" if number is None else f"{number:.10g}"


def first_letter(text: str) -> str:
    """The letter A-E that a text answers with; empty if there is none.

    The published protocol takes the first such character anywhere, which reads "Because" as B and "A train" as A. Here
    the letter after the last "answer is" comes first, then the first one standing alone, then one that the text starts
    with ("C4").
    """
    named = re.findall(r"answer is:?\s*\(?([A-E])\b", text)
    if named:
        return str(named[-1])
    match = re.search(r"\b[A-E]\b", text) or re.match(r"\s*[A-E]", text)
    return match.group().strip() if match else ""


def first_option(text: str, options: Sequence[str]) -> str:
    """The option whose words come first in the text, letter case aside; the longer one where two start together."""
    found = [(match.start(), -len(option), option) for option in options if (match := _find(option, text))]
    return min(found)[2] if found else ""


def _find(option: str, text: str) -> re.Match[str] | None:
    # \b does not hold beside a sign such as "+", so word borders are stated as "no word character beside a word".
    stripped = option.strip()
    return re.search(rf"(?<!\w){re.escape(stripped)}(?!\w)", text, re.IGNORECASE) if stripped else None
