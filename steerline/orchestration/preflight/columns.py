"""Which columns a data file has, where the first bytes of it tell."""

from __future__ import annotations

import csv
import json
import string
from pathlib import Path

from steerline.config.data import ChatFormat, ClassificationFormat, DataFormat, PromptAnswerFormat, TextFormat

_LONGEST_LINE = 4 * 2**20


def wanted(format_: DataFormat) -> dict[str, list[str]]:
    """The columns that a format reads, by the field of the config that names them.

    Raises:
        ValueError: a template cannot be read.
    """
    match format_:
        case PromptAnswerFormat():
            return {"prompt": _placeholders(format_.prompt), "answer": _placeholders(format_.answer)}
        case ChatFormat():
            return {"messages": [format_.messages]}
        case TextFormat():
            return {"text": [format_.text]}
        case ClassificationFormat():
            return {"text": _placeholders(format_.text), "label": [format_.label]}
    return {}


def present(path: Path) -> list[str] | None:
    """The columns of a file, or of a folder saved by `datasets`. None where only reading all of it would tell.

    Raises:
        ValueError: the file is empty, or its first row cannot be read.
        OSError: the file cannot be opened.
    """
    if path.is_dir():
        info = path / "dataset_info.json"
        return list(json.loads(info.read_text(encoding="utf-8")).get("features") or {}) if info.is_file() else None
    match path.suffix:
        case ".jsonl" | ".ndjson":
            return _first_row(path)
        case ".csv":
            return _header(path)
        case ".parquet":
            from pyarrow import parquet

            return list(parquet.read_schema(path).names)
    return None


def _placeholders(template: str) -> list[str]:
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    return [name.split(".")[0].split("[")[0] for name in names]


def _first_row(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        while line := file.readline(_LONGEST_LINE):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("its first row is not a mapping of columns")
                return list(row)
    raise ValueError("it is empty")


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), None)
    if not header:
        raise ValueError("it is empty")
    return header
