"""Rows as examples, by the format that the config names."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

from steerline.config.data import (
    ChatFormat,
    ClassificationFormat,
    DataFormat,
    PromptAnswerFormat,
    TaskFormat,
    TextFormat,
)
from steerline.data.examples import Example
from steerline.data.rows import Row, missing_column
from steerline.data.tasks.table import TASKS
from steerline.errors import DataError


def to_example(row: Row, data_format: DataFormat, id_: str, place: str) -> Example:
    """One row as an example.

    Args:
        row: column -> value.
        data_format: how to read it.
        id_: the example's id.
        place: where the row stands, for errors.

    Raises:
        DataError: a column is missing, or holds what the format cannot use.
    """
    match data_format:
        case TaskFormat():
            return TASKS[data_format.task](row, id_, place)
        case PromptAnswerFormat():
            return Example(id_, fill(data_format.prompt, row, place), fill(data_format.answer, row, place))
        case ChatFormat():
            return _chat(row, data_format.messages, id_, place)
        case TextFormat():
            return Example(id_, "", _text(row, data_format.text, place))
        case ClassificationFormat():
            return _classified(row, data_format, id_, place)


def fill(template: str, row: Row, place: str) -> str:
    """A template such as `"{question}\\n"` with the row's columns put in; `{{` is a brace.

    Raises:
        DataError: the template names a column that the row does not have, or is not well formed.
    """
    pieces = []
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError("a template is not well formed", got=template, where=place, expected=str(error)) from error
    for literal, column, *_ in parsed:
        pieces.append(literal)
        if column is not None:
            pieces.append(_text(row, column, place))
    return "".join(pieces)


def _text(row: Row, column: str, place: str) -> str:
    if column not in row:
        raise missing_column(column, row, place)
    value = row[column]
    if value is None or isinstance(value, dict | list):
        raise DataError(
            f"column `{column}` holds no text",
            where=place,
            got=repr(value)[:80],
            expected="a text, a number or true/false",
        )
    return str(value)


def _classified(row: Row, data_format: ClassificationFormat, id_: str, place: str) -> Example:
    text = fill(data_format.text, row, place)
    label = _class_number(_text(row, data_format.label, place), data_format, place)
    classes = data_format.classes
    return Example(id_, text, classes[label], choices=classes, label=label, target="class")


def _class_number(value: str, data_format: ClassificationFormat, place: str) -> int:
    """The number of a class that a row gives by name or by number."""
    if value in data_format.classes:
        return data_format.classes.index(value)
    if value.isdecimal() and int(value) < len(data_format.classes):
        return int(value)
    last = len(data_format.classes) - 1
    raise DataError(
        "a row's label is not one of the classes",
        where=f"{place}, column `{data_format.label}`",
        got=value[:80],
        expected=f"{', '.join(data_format.classes)}, or 0 to {last}",
        fix="the labels of this split are withheld: use another split"
        if value == "-1"
        else "list all classes under `format.classes`, in the order of their numbers",
    )


def _chat(row: Row, column: str, id_: str, place: str) -> Example:
    if column not in row:
        raise missing_column(column, row, place)
    messages = tuple(_message(message, f"{place}, message {n}") for n, message in enumerate(_listed(row[column]), 1))
    if not messages:
        raise DataError(f"column `{column}` holds no messages", where=place, got=repr(row[column])[:80])
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=len(messages) - 1)
    prompt = "\n".join(f"{message['role']}: {message['content']}" for message in messages[:last])
    return Example(id_, prompt, messages[last]["content"], messages=messages)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _message(message: Any, place: str) -> dict[str, str]:
    if not isinstance(message, Mapping) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
        raise DataError(
            "a chat message is not of the form that chat templates read",
            where=place,
            got=repr(message)[:120],
            expected='{"role": "user", "content": "..."}',
        )
    return {"role": message["role"], "content": message["content"]}
