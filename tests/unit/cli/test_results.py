from __future__ import annotations

import json
from pathlib import Path

import pytest

from steerline.tracking import lineage as lineages
from steerline.tracking.lineage import Lineage, Node
from tests.unit.evaluation.build import result, task


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    made = tmp_path / "sft", tmp_path / "steered"
    for folder, right in zip(made, ([1, 0, 0, 0] * 10, [1, 1, 1, 0] * 10), strict=True):
        folder.mkdir()
        result(task("boolq", right)).save(folder / "evaluation.json")
    return made


def test_two_run_folders_are_compared_item_by_item(steerline, folders: tuple[Path, Path]) -> None:
    ran = steerline("compare", *folders)
    assert ran.code == 0
    row = next(line for line in ran.out.splitlines() if line.split()[:1] == ["boolq"])
    assert "25.0 [" in row
    assert "75.0 [" in row
    assert "+50.0 [" in row
    assert "<0.001" in row


def test_a_comparison_is_printed_for_programs_and_documents_too(steerline, folders: tuple[Path, Path]) -> None:
    assert json.loads(steerline("compare", *folders, "--json").out)["label_b"] == "steered"
    assert steerline("compare", *folders, "--markdown").out.startswith("| task |")


def test_a_run_without_an_evaluation_is_an_error(steerline, folders: tuple[Path, Path]) -> None:
    (folders[1] / "evaluation.json").unlink()
    ran = steerline("compare", *folders)
    assert ran.code == 12
    assert "no evaluation" in ran.err


def test_lineage_asks_the_server_that_is_named(steerline, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def trace(uri: str, ref: str, direction: str) -> Lineage:
        asked.append((uri, ref, direction))
        return Lineage(down=Node("dataset", "boolq", "d1"))

    monkeypatch.setattr(lineages, "lineage", trace)
    ran = steerline("lineage", "d1", "--direction", "down", "--tracking-uri", "http://m:5000")
    assert ran.code == 0
    assert "boolq" in ran.out
    assert asked == [("http://m:5000", "d1", "down")]
    assert steerline("lineage", "d1", "--direction", "sideways").code == 2


def test_a_source_that_the_server_does_not_know_is_named_once(steerline, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Node("other", "some/model@main", "some/model@main", "base_model")
    run = Node("run", "demo-1", "0123abcd", children=(source,))
    monkeypatch.setattr(lineages, "lineage", lambda uri, ref, direction: Lineage(up=run))
    out = steerline("lineage", "demo-1", "--tracking-uri", "http://m:5000").out
    assert out.count("some/model@main") == 1
    assert "demo-1 0123abcd" in out


def test_export_of_an_unknown_run_is_an_error(steerline) -> None:
    ran = steerline("export", "nobody", "out")
    assert ran.code == 7
    assert "nobody" in ran.err
