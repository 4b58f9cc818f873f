"""Multiple-choice commonsense tasks: their layouts and their prompts.

Wording of the prompts and answers: the instruction files that LLM-Adapters publishes. The answer is the whole sentence
"the correct answer is ...", after the prompt and a line break, as in ReFT. BoolQ is asked without its passage there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from steerline.data.rows import Row
from steerline.data.tasks.layout import Layout, UnreadableRowError, index_of, text_of

ANSWER_LEAD = "the correct answer is "


@dataclass(frozen=True)
class Choice:
    """A question, its options as the data set words them, and the index of the right one."""

    question: str
    options: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Wording:
    """How a task asks.

    Args:
        lead: before the question.
        word: what an option is called; option 1 is `{word}1`.
        joint: between options.
        tail: before "Answer format".
    """

    lead: str
    word: str
    joint: str = " "
    tail: str = "\n\n"


def ask(item: Choice, wording: Wording) -> tuple[str, tuple[str, ...]]:
    """The prompt, and the words that stand for the options."""
    words = tuple(f"{wording.word}{number}" for number in range(1, len(item.options) + 1))
    shown = wording.joint.join(
        f"{word.capitalize()}: {option}" for word, option in zip(words, item.options, strict=True)
    )
    return f"{wording.lead}{item.question}\n\n{shown}{wording.tail}Answer format: {'/'.join(words)}\n", words


def ask_true_or_false(item: Choice) -> tuple[str, tuple[str, ...]]:
    """BoolQ's prompt and its two words; option 0 is true."""
    lead = "Please answer the following question with true or false, question: "
    return f"{lead}{item.question}\n\nAnswer format: true/false\n", ("true", "false")


SOLUTION = Wording("Please choose the correct solution to the question: ", "solution", joint="\n\n")
ANSWER = Wording("Please choose the correct answer to the question: ", "answer")
ENDING = Wording("Please choose the correct ending to complete the given sentence: ", "ending")
OPTION = Wording(
    "Please choose the correct answer to fill in the blank to complete the given sentence: ", "option", tail=" "
)


# --- layouts: the hub's own columns, and those of `oe_eval` (a query with the options' texts and the right index) ---


def _oe_question(row: Row) -> str:
    return text_of(row, "query").removeprefix("Question:").removesuffix("Answer:").strip()


def _oe_choices(row: Row) -> tuple[str, ...]:
    choices = row["choices"]
    if not isinstance(choices, list):
        raise UnreadableRowError(f"`choices` is {choices!r}, not a list of texts")
    return tuple(str(choice).strip() for choice in choices)


def _oe(row: Row) -> Choice:
    choices = _oe_choices(row)
    return Choice(_oe_question(row), choices, index_of(row["gold"], len(choices), column="gold"))


def _boolq(row: Row) -> Choice:
    answer = row["answer"]
    if not isinstance(answer, bool):
        raise UnreadableRowError(f"`answer` is {answer!r}, not true or false")
    return Choice(_asked(text_of(row, "question")), ("true", "false"), 0 if answer else 1)


def _oe_boolq(row: Row) -> Choice:
    # "TITLE -- PASSAGE\nQuestion: ...?\nAnswer:"; a passage may hold the word too, so the last one counts.
    item = _oe(row)
    question = item.question.rpartition("\nQuestion:")[2].strip()
    return Choice(_asked(question), ("true", "false"), item.label)


def _asked(question: str) -> str:
    return question if question.endswith("?") else f"{question}?"


def _piqa(row: Row) -> Choice:
    options = (text_of(row, "sol1"), text_of(row, "sol2"))
    return Choice(text_of(row, "goal"), options, index_of(row["label"], 2, column="label"))


def _social_i_qa(row: Row) -> Choice:
    options = tuple(text_of(row, f"answer{letter}") for letter in "ABC")
    question = f"{text_of(row, 'context')} {text_of(row, 'question')}"
    return Choice(question, options, index_of(row["label"], 3, first=1, column="label"))


def _hellaswag(row: Row) -> Choice:
    begun = f"{row['ctx_a']} {str(row['ctx_b']).capitalize()}"
    options = tuple(_without_marks(ending) for ending in row["endings"])
    question = _without_marks(f"{row['activity_label']}: {begun}")
    return Choice(question, options, index_of(row["label"], len(options), column="label"))


def _without_marks(text: str) -> str:
    """WikiHow's layout marks (`[title]`, `[step]`) out of HellaSwag, to the texts that `oe_eval` makes of them."""
    text = text.strip().replace(". [title]", ". ").replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ").strip()


def _winogrande(row: Row) -> Choice:
    options = (text_of(row, "option1"), text_of(row, "option2"))
    return Choice(text_of(row, "sentence"), options, index_of(row["answer"], 2, first=1, column="answer"))


def _keyed(row: Row, question: str) -> Choice:
    """ARC and OpenBookQA: `choices` holds texts and their letters or digits, `answerKey` names the right one."""
    choices = row["choices"]
    labels, texts = list(choices["label"]), tuple(str(text).strip() for text in choices["text"])
    if row["answerKey"] not in labels:
        raise UnreadableRowError(f"`answerKey` is {row['answerKey']!r}, not one of {labels}")
    return Choice(text_of(row, question), texts, labels.index(row["answerKey"]))


_OE = Layout(("query", "choices", "gold"), _oe)

BOOLQ = (
    Layout(("question", "answer"), _boolq),
    Layout(("query", "choices", "gold"), _oe_boolq),
)
PIQA = (Layout(("goal", "sol1", "sol2", "label"), _piqa),)
SOCIAL_I_QA = (Layout(("context", "question", "answerA", "answerB", "answerC", "label"), _social_i_qa),)
HELLASWAG = (Layout(("activity_label", "ctx_a", "ctx_b", "endings", "label"), _hellaswag), _OE)
WINOGRANDE = (Layout(("sentence", "option1", "option2", "answer"), _winogrande),)
ARC = (Layout(("question", "choices", "answerKey"), lambda row: _keyed(row, "question")), _OE)
OPENBOOKQA = (Layout(("question_stem", "choices", "answerKey"), lambda row: _keyed(row, "question_stem")), _OE)
