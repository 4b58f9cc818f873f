"""What can be known before a classifier's job: its folders, its columns, its looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.orchestration.preflight_scenes import find, job, only

CLASSES = "{kind: classification, classes: ['no', 'yes']}"


def rows(source: str) -> list[str]:
    return [f"data.train.0={{source: {source}, format: {CLASSES}}}", "objective.kind=classification"]


@pytest.mark.parametrize("kind", ["treebank", "review_folder"])
def test_a_folder_of_a_data_set_exists_or_is_named(tmp_path: Path, kind: str) -> None:
    there = rows(f"{{kind: {kind}, path: '{tmp_path}', split: train}}")
    gone = rows(f"{{kind: {kind}, path: '{tmp_path / 'gone'}', split: train}}")
    assert find("data", job(tmp_path, *there)) == []
    assert "gone" in only(find("data", job(tmp_path, *gone)), fatal=True)


def test_the_columns_of_text_and_label_are_there(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "fine", "label": 1}\n')
    assert find("columns", job(tmp_path, *rows(f"{{kind: file, path: '{file}'}}"))) == []
    file.write_text('{"text": "fine", "sentiment": 1}\n')
    assert "no column `label`" in only(
        find("columns", job(tmp_path, *rows(f"{{kind: file, path: '{file}'}}"))), fatal=True
    )


def test_looks_by_passes_without_held_out_data_have_no_effect(tmp_path: Path) -> None:
    found = find("no-effect", job(tmp_path, "training.heldout_every_epochs=1"))
    assert "no held-out data" in only(found, fatal=False)
