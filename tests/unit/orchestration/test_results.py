from __future__ import annotations

from pathlib import Path

import pytest

from steerline.config.cluster import ClusterSpec
from steerline.errors import EvaluationError, SubmitError, TrackingError
from steerline.home import storage_folder
from steerline.orchestration import results
from steerline.orchestration.ledger import Attempt, Ledger
from steerline.orchestration.results import evaluation, run_folder
from tests.unit.evaluation.build import result, task


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path / "home"))
    folder = storage_folder(ClusterSpec().storage_path)
    folder.mkdir(parents=True)
    return folder


def test_a_run_is_found_where_the_ledger_says(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "demo-0a1b").mkdir(parents=True)
    attempt = Attempt(
        submission_id="demo-0a1b-a1",
        run_name="demo-0a1b",
        attempt=1,
        kind="finetune",
        root=tmp_path,
        config="x.yaml",
        overrides=(),
        storage_path=str(tmp_path / "elsewhere"),
        address="http://127.0.0.1:1",
    )
    Ledger().add(attempt)
    assert run_folder("demo") == run_folder("demo-0a1b-a1") == tmp_path / "elsewhere" / "demo-0a1b"


def test_a_run_that_the_ledger_does_not_know_is_found_by_the_beginning_of_its_folder(storage: Path) -> None:
    for name in ("demo-0a1b", "demo-0a1b-x", "other-1"):
        (storage / name).mkdir()
    assert run_folder("oth") == storage / "other-1"
    assert run_folder("demo-0a1b") == storage / "demo-0a1b"
    assert run_folder("nobody") is None
    with pytest.raises(SubmitError, match="more than one"):
        run_folder("demo")


def test_what_names_no_folder_here_is_no_run_whatever_its_characters(storage: Path, tmp_path: Path) -> None:
    (storage / "demo-0a1b").mkdir()
    for reference in (str(tmp_path / "nowhere"), "d*", "**", "[d]", "../home/runs/nowhere"):
        assert run_folder(reference) is None


def test_an_evaluation_is_read_from_a_file_a_folder_and_mlflow(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = result(task("boolq", [1, 0]))
    (storage / "demo-0a1b").mkdir()
    file = storage / "demo-0a1b" / "evaluation.json"
    expected.save(file)
    assert evaluation(str(file), "") == evaluation("demo", "") == expected

    class Info:
        class ref:  # noqa: N801
            run_id = "r1"

    monkeypatch.setattr(results, "find_run", lambda uri, name: Info)
    monkeypatch.setattr(results, "download_artifact", lambda uri, run_id, path, folder: file)
    assert evaluation("elsewhere", "http://m") == expected


def test_an_evaluation_that_is_nowhere_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(uri: str, name: str) -> None:
        raise TrackingError("No run has this name")

    monkeypatch.setattr(results, "find_run", nothing)
    with pytest.raises(EvaluationError, match="here or in MLflow") as caught:
        evaluation("nobody", "http://m:5000")
    assert "http://m:5000" in str(caught.value)
