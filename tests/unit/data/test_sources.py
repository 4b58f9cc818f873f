"""Every source gives its rows, and every way in which it can be wrong is named with the file and the row."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import datasets
import pytest
from pydantic import TypeAdapter

from steerline.config.data import DataSource
from steerline.data.catalogue import Entry
from steerline.data.files import read_oe_eval, read_path
from steerline.data.rows import Rows
from steerline.data.sources import read_rows
from steerline.errors import DataError
from tests.unit.data.conftest import make_wheel, spec_of

ROWS: list[dict[str, Any]] = [{"question": "a, b?", "answer": "1"}, {"question": 'two\n"lines"', "answer": "2"}]


def _source(**fields: Any) -> Rows:
    adapter: TypeAdapter[Any] = TypeAdapter(DataSource)
    return read_rows(adapter.validate_python(fields))


def _file(path: Path | str) -> Rows:
    return _source(kind="file", path=str(path))


def _write_rows(path: Path) -> None:
    lines = "\n\n".join(json.dumps(row) for row in ROWS) + "\n"
    match path.name.split(".", 1)[1]:
        case "jsonl":
            path.write_text(lines)
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case "json":
            path.write_text(json.dumps(ROWS))
        case "csv":
            path.write_text('question,answer\n"a, b?",1\n"two\n""lines""",2\n')
        case "parquet":
            datasets.Dataset.from_list(ROWS).to_parquet(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.csv", "rows.parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    _write_rows(tmp_path / name)
    rows = _file(tmp_path / name)
    assert [dict(row) for row in rows.rows] == ROWS
    assert rows.name == "rows"
    assert rows.id(1) == "rows/1"
    assert rows.place(1).startswith(str(tmp_path / name))


def test_a_row_of_a_jsonl_file_knows_its_line(tmp_path: Path) -> None:
    _write_rows(tmp_path / "rows.jsonl")  # with an empty line between the rows
    assert _file(tmp_path / "rows.jsonl").place(1) == f"{tmp_path / 'rows.jsonl'}:3"


def test_a_glob_reads_its_files_in_name_order(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    assert [row["text"] for row in _file(tmp_path / "*.jsonl").rows] == ["a", "b", "c"]


def test_a_folder_saved_by_datasets_is_read(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert [dict(row) for row in _file(tmp_path / "saved").rows] == ROWS


def test_a_saved_folder_of_several_splits_names_them(tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS)})
    splits.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="several splits") as caught:
        _file(tmp_path / "saved")
    assert "train, test" in str(caught.value.got)


def test_a_plain_folder_is_answered_with_a_glob(tmp_path: Path) -> None:
    _write_rows(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="not a data set") as caught:
        _file(tmp_path)
    assert "*.jsonl" in str(caught.value.fix)


def test_a_missing_file_is_answered_with_the_nearest(tmp_path: Path) -> None:
    _write_rows(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match="does not exist") as caught:
        _file(tmp_path / "trian.jsonl")
    assert str(tmp_path / "train.jsonl") in str(caught.value.fix)


@pytest.mark.parametrize(("name", "content"), [("rows.jsonl", ""), ("rows.json", "[]"), ("rows.csv", "a,b\n")])
def test_an_empty_data_set_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="no rows"):
        _file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("x.jsonl", '{"a": 1}\n{"a": 2\n', "x.jsonl:2", "not JSON"),
        ("x.jsonl", '{"a": 1}\n[1]\n', "x.jsonl:2", "not an object"),
        ("x.json", '{"a": 1}', "x.json", "list of rows"),
        ("x.json", '[{"a": 1}, 3]', "x.json, row 2", "not an object"),
        ("x.csv", "a,b\n1,2\n1,2,3\n", "x.csv:3", "number of fields"),
        ("x.csv", "a,b\n1\n", "x.csv:2", "number of fields"),
        ("x.parquet", "no parquet", "x.parquet", "cannot be read"),
        ("x.jsonl.gz", "no gzip", "x.jsonl.gz", "cannot be read"),
        ("x.txt", "text", "x.txt", "unknown kind"),
    ],
)
def test_a_broken_file_is_named_with_its_row(tmp_path: Path, name: str, content: str, where: str, what: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=what) as caught:
        _file(tmp_path / name)
    assert str(caught.value.where).endswith(where)


def test_files_that_run_code_when_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.pkl"
    path.write_bytes(pickle.dumps(ROWS))
    with pytest.raises(DataError, match="unknown kind") as caught:
        _file(path)
    assert "pickle" in str(caught.value.fix)


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(DataError, match="cannot be read"):
        _file(tmp_path / "x.jsonl")


def test_an_oe_eval_file_gives_each_question_once_and_in_order(tmp_path: Path) -> None:
    docs = [{"id": 0, "query": "p"}, {"id": 1, "query": "q"}]
    requests = [
        {"doc": {**doc, "index": number}, "request": "r", "idx": option}
        for doc in docs
        for number in range(2)
        for option in range(3)
    ]
    path = tmp_path / "requests.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(request) + "\n" for request in requests).encode()))
    assert [row["query"] for row in read_oe_eval(path)] == ["p", "q"]


def test_a_hub_set_that_cannot_be_reached_says_how_to_go_on(hub_cache: Path) -> None:
    with pytest.raises(DataError, match="hub data set") as caught:
        _source(kind="hub", id="nobody/no-such-set", split="train")
    assert "nobody/no-such-set" in str(caught.value.where)
    assert "HF_HOME" in str(caught.value.fix)


def test_a_split_that_a_hub_set_does_not_have_is_named(tmp_path: Path, hub_cache: Path) -> None:
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(DataError, match="hub data set") as caught:
        _source(kind="hub", id=str(tmp_path / "set"), split="tset")
    assert "tset" in str(caught.value)


def test_a_loading_script_is_never_run(tmp_path: Path, hub_cache: Path) -> None:
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(DataError):
        _source(kind="hub", id=str(folder), split="train")
    assert not (tmp_path / "ran").exists()


def test_an_archive_written_out_is_read_by_its_suffix(cache: Path) -> None:
    wheel = make_wheel(cache / "archives", {"pkg/rows.jsonl": json.dumps(ROWS[0]) + "\n"})
    rows = _source(kind="packaged", archive=spec_of(wheel, "pkg/rows.jsonl").model_dump())
    assert [dict(row) for row in rows.rows] == [ROWS[0]]
    assert rows.name == "rows"
    assert "demo-data 1.0" in rows.place(0)


def test_a_packaged_set_of_another_size_than_recorded_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(cache / "archives", {"pkg/rows.jsonl": json.dumps(ROWS[0]) + "\n"})
    entry = Entry(spec_of(wheel, "pkg/rows.jsonl"), "jsonl", "MIT", 2, wheel.stat().st_size)
    monkeypatch.setattr("steerline.data.packaged.ENTRIES", {"demo": entry})
    with pytest.raises(DataError, match="another size"):
        _source(kind="packaged", name="demo")


def test_a_packaged_model_is_no_data_set() -> None:
    with pytest.raises(DataError, match="is a model"):
        _source(kind="packaged", name="stories15m")


def test_places_of_rows_without_lines_count_from_one() -> None:
    assert Rows("n", "the set", ROWS).place(0) == "the set, row 1"


def test_a_relative_path_is_looked_up_where_the_job_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_rows(tmp_path / "rows.jsonl")
    monkeypatch.chdir(tmp_path)
    assert len(read_path("rows.jsonl")) == 2
