"""Rows out of files: JSON lines, JSON, CSV (gzipped or not), Parquet, Arrow folders saved by `datasets`."""

from __future__ import annotations

import csv
import glob
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from steerline.data.rows import Row, Rows, nearest
from steerline.errors import DataError

_CSV_FIELD_BYTES = 1 << 24


def read_path(path: str) -> Rows:
    """Rows of a file, of all files that a glob matches (in name order), or of a folder saved by `datasets`.

    Raises:
        DataError: nothing there, an unknown kind of file, or a file that does not hold rows.
    """
    expanded = str(Path(path).expanduser())
    matches = sorted(glob.glob(expanded))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    found = [Path(expanded)] if Path(expanded).exists() else [Path(match) for match in matches]
    if not found:
        raise _not_found(Path(expanded))
    if len(found) == 1 and found[0].is_dir():
        return read_saved(found[0])
    rows: list[Row] = []
    places: list[str] = []
    for file in found:
        for place, row in read_file(file):
            rows.append(row)
            places.append(place)
    name = found[0].name.split(".")[0] if len(found) == 1 else Path(expanded).parent.name
    return Rows(name=name, label=path, rows=rows, places=places)


def read_file(path: Path) -> Iterator[tuple[str, Row]]:
    """Each row of one file, with its place (`file:line`).

    Raises:
        DataError: an unknown suffix, or a file that does not hold rows.
    """
    suffix = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if suffix not in _READERS or path.is_dir():
        raise DataError(
            "a data file is of an unknown kind",
            where=str(path),
            got="a folder" if path.is_dir() else f"suffix .{suffix}",
            expected=", ".join(f".{known}" for known in _READERS) + ", or a folder saved by `datasets`",
            fix="convert the file; files that run code when read (pickle, loading scripts) are never read",
        )
    try:
        yield from _READERS[suffix](path)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        raise DataError("a data file cannot be read", where=str(path), got=error) from error


def read_saved(folder: Path) -> Rows:
    """Rows of a data set that `datasets` saved to disk.

    Raises:
        DataError: the folder holds no such data set, or several splits.
    """
    splits = folder / "dataset_dict.json"
    if splits.exists():
        names = json.loads(splits.read_text())["splits"]
        raise DataError(
            "a saved data set has several splits",
            where=str(folder),
            got=", ".join(names),
            fix=f"name one of them: {folder / names[0]}",
        )
    if not (folder / "state.json").exists():
        raise DataError(
            "a folder is not a data set saved by `datasets`",
            where=str(folder),
            got=", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "an empty folder",
            expected="state.json and *.arrow",
            fix=f"for files in a folder, use a glob such as {folder / '*.jsonl'}",
        )
    import datasets

    return Rows(name=folder.name, label=str(folder), rows=datasets.load_from_disk(str(folder)))


def read_oe_eval(path: Path) -> list[Row]:
    """Questions of an `oe_eval` request file, each once and in order.

    Such a file has a line for every answer option, and often every question twice. A question is its `doc`; fields
    that only number it do not make it another one.
    """
    seen: dict[str, Row] = {}
    for _, request in read_file(path):
        doc = request["doc"]
        content = {key: value for key, value in doc.items() if key not in ("index", "idx", "ind")}
        seen.setdefault(json.dumps(content, sort_keys=True), doc)
    return list(seen.values())


def _open(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8-sig", newline="")


def _json_lines(path: Path) -> Iterator[tuple[str, Row]]:
    with _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield f"{path}:{number}", _json_object(line, f"{path}:{number}")


def _json_object(text: str, place: str) -> Row:
    value = _json(text, place)
    if not isinstance(value, dict):
        raise DataError("a row is not an object", where=place, got=type(value).__name__, expected="{column: value}")
    return value


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError("a row is not JSON", where=place, got=str(error), expected="one JSON value") from error


def _json_list(path: Path) -> Iterator[tuple[str, Row]]:
    with _open(path) as stream:
        value = _json(stream.read(), str(path))
    if not isinstance(value, list):
        raise DataError(
            "a JSON file does not hold a list of rows",
            where=str(path),
            got=type(value).__name__,
            expected="[{column: value}, ...]",
            fix="one object per line is `.jsonl`",
        )
    for number, row in enumerate(value, start=1):
        place = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise DataError("a row is not an object", where=place, got=type(row).__name__, expected="{column: value}")
        yield place, row


def _csv(path: Path) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(_CSV_FIELD_BYTES)
    with _open(path) as stream:
        reader = csv.DictReader(stream, strict=True)
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise DataError(
                    "a CSV row has another number of fields than the header",
                    where=place,
                    expected=f"{len(reader.fieldnames or [])} fields",
                    fix="quote fields that hold commas or line breaks",
                )
            yield place, row


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise DataError("a Parquet file cannot be read", where=str(path), got=error) from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Row]]]] = {
    "jsonl": _json_lines,
    "json": _json_list,
    "csv": _csv,
    "parquet": _parquet,
}


def _not_found(path: Path) -> DataError:
    folder = path.parent
    beside = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    near = nearest(path.name, beside)
    return DataError(
        "a data file does not exist",
        where=str(path),
        got=f"{folder} holds {', '.join(beside[:8]) or 'nothing'}" if folder.is_dir() else f"no folder {folder}",
        fix=f"did you mean {folder / near}?" if near else "paths are relative to the folder the job starts in",
    )
