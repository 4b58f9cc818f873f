"""Each format turns a row into an example, and names the row and the column where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from steerline.config.data import DataFormat
from steerline.data.examples import Example
from steerline.data.templates import to_example
from steerline.errors import DataError


def _example(row: dict[str, Any], **fields: Any) -> Example:
    adapter: TypeAdapter[Any] = TypeAdapter(DataFormat)
    return to_example(row, adapter.validate_python(fields), "set/4", "set.jsonl:5")


def test_prompt_and_answer_are_filled_from_columns() -> None:
    example = _example(
        {"q": "2+2?", "n": 4, "ok": True}, kind="prompt_answer", prompt="{{x}} {q}\n", answer="{n}, {ok}"
    )
    assert example == Example("set/4", "{x} 2+2?\n", "4, True")


def test_braces_in_the_data_stay_as_they_are() -> None:
    assert _example({"q": "{answer}"}, kind="prompt_answer", prompt="{q}", answer="x").prompt == "{answer}"


def test_text_is_an_answer_to_nothing() -> None:
    assert _example({"body": "once"}, kind="text", text="body") == Example("set/4", "", "once")


def test_a_conversation_keeps_its_messages() -> None:
    messages = [
        {"role": "user", "content": "hi", "extra": 1},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "bye"},
    ]
    example = _example({"messages": messages}, kind="chat")
    assert [message["role"] for message in example.messages] == ["user", "assistant", "user"]
    assert (example.prompt, example.answer) == ("user: hi", "ho")


@pytest.mark.parametrize(
    ("row", "fields", "words"),
    [
        ({"question": "a"}, {"kind": "prompt_answer", "prompt": "{qestion}", "answer": ""}, "use `question`"),
        ({"a": 1}, {"kind": "text"}, "no column `text`"),
        ({"text": None}, {"kind": "text"}, "holds no text"),
        ({"text": ["a"]}, {"kind": "text"}, "holds no text"),
        ({"a": 1}, {"kind": "prompt_answer", "prompt": "{a", "answer": ""}, "not well formed"),
        ({"a": 1}, {"kind": "chat"}, "no column `messages`"),
        ({"messages": "hi"}, {"kind": "chat"}, "holds no messages"),
        ({"messages": [{"role": "user"}]}, {"kind": "chat"}, "chat message"),
        ({"messages": [{"role": "user", "content": ["parts"]}]}, {"kind": "chat"}, "chat message"),
    ],
)
def test_a_row_that_does_not_fit_is_named(row: dict[str, Any], fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        _example(row, **fields)
    assert words in str(caught.value)
    assert str(caught.value.where).startswith("set.jsonl:5")
