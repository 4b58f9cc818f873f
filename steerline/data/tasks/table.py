"""Every task: how its rows are read, and what is asked and answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from steerline.config.data import TaskName
from steerline.data.examples import Example
from steerline.data.rows import Row
from steerline.data.tasks import choice, numeric
from steerline.data.tasks.layout import Layout, read_row

ToExample = Callable[[Row, str, str], Example]
"""Of a row, its example's id, and its place for errors."""


def _choice(
    layouts: tuple[Layout[choice.Choice], ...], ask: Callable[[choice.Choice], tuple[str, tuple[str, ...]]]
) -> ToExample:
    def to_example(row: Row, id_: str, place: str) -> Example:
        item = read_row(row, layouts, place)
        prompt, words = ask(item)
        return Example(id_, prompt, choice.ANSWER_LEAD + words[item.label], words, item.label)

    return to_example


def _worded(layouts: tuple[Layout[choice.Choice], ...], wording: choice.Wording) -> ToExample:
    return _choice(layouts, partial(choice.ask, wording=wording))


def _number(layouts: tuple[Layout[numeric.Problem], ...]) -> ToExample:
    def to_example(row: Row, id_: str, place: str) -> Example:
        problem = read_row(row, layouts, place)
        return Example(id_, numeric.ask_number(problem.question), numeric.answer_of(problem))

    return to_example


def _aqua(row: Row, id_: str, place: str) -> Example:
    item = read_row(row, numeric.AQUA, place)
    answer = numeric.ANSWER_LEAD + item.letters[item.label]
    return Example(id_, numeric.ask_letter(item.question), answer, item.letters, item.label)


def _arithmetic(row: Row, id_: str, place: str) -> Example:
    problem = read_row(row, numeric.ARITHMETIC, place)
    return Example(id_, f"{problem.question} =", f" {problem.number}")


TASKS: Mapping[TaskName, ToExample] = {
    "boolq": _choice(choice.BOOLQ, choice.ask_true_or_false),
    "piqa": _worded(choice.PIQA, choice.SOLUTION),
    "social_i_qa": _worded(choice.SOCIAL_I_QA, choice.ANSWER),
    "hellaswag": _worded(choice.HELLASWAG, choice.ENDING),
    "winogrande": _worded(choice.WINOGRANDE, choice.OPTION),
    "arc_easy": _worded(choice.ARC, choice.ANSWER),
    "arc_challenge": _worded(choice.ARC, choice.ANSWER),
    "openbookqa": _worded(choice.OPENBOOKQA, choice.ANSWER),
    "gsm8k": _number(numeric.GSM8K),
    "addsub": _number(numeric.WORD_PROBLEMS),
    "singleeq": _number(numeric.WORD_PROBLEMS),
    "multiarith": _number(numeric.WORD_PROBLEMS),
    "mawps": _number(numeric.WORD_PROBLEMS),
    "svamp": _number(numeric.WORD_PROBLEMS),
    "asdiv": _number(numeric.WORD_PROBLEMS),
    "aqua": _aqua,
    "arithmetic": _arithmetic,
}
