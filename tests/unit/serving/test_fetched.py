"""Files of registered versions on disk: bounded, and never taken from a process that has their model."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from steerline.errors import TrackingError
from steerline.serving.fetched import FetchedFiles
from steerline.tracking.registry import Registered, fetch


def version(number: int) -> Registered:
    return Registered("a", str(number), None, "/elsewhere")


@dataclass
class Server:
    """Has versions of ten bytes each; notes what was fetched."""

    folder: Path
    fetched: list[str] = field(default_factory=list)

    def fetch(self, version: Registered, folder: Path) -> Path:
        if not folder.is_dir():
            (folder / "part").mkdir(parents=True)
            (folder / "part" / "weights").write_bytes(bytes(10))
            self.fetched.append(version.version)
        return folder

    def files(self, most: int | None = 25) -> FetchedFiles:
        return FetchedFiles(self.folder / "served", most, self.fetch)

    @property
    def kept(self) -> set[str]:
        return {path.name for path in (self.folder / "served").iterdir() if path.is_dir()}


def used(files: FetchedFiles, number: int) -> None:
    with files.of(version(number)) as folder:
        assert (folder / "part" / "weights").stat().st_size == 10


def test_files_loaded_longest_ago_go_when_there_are_too_many(tmp_path: Path) -> None:
    server = Server(tmp_path)
    files = server.files()
    for number in (1, 2, 1, 3):
        used(files, number)
    assert server.kept == {"a-1", "a-3"}
    used(files, 2)
    assert server.fetched == ["1", "2", "3", "2"]


def test_files_of_a_model_in_memory_stay_whichever_process_has_it(tmp_path: Path) -> None:
    server = Server(tmp_path)
    one, other = server.files(), server.files()
    with ExitStack() as models:
        models.enter_context(one.of(version(1)))
        for number in (2, 3, 4):
            used(other, number)
        assert server.kept == {"a-1", "a-4"}
        models.enter_context(one.of(version(4)))
        models.enter_context(one.of(version(5)))
        # More than there is room for, and all of it in use.
        assert server.kept == {"a-1", "a-4", "a-5"}
    used(other, 6)
    assert server.kept == {"a-5", "a-6"}


def test_a_full_disk_is_mended_by_a_lower_bound(tmp_path: Path) -> None:
    server = Server(tmp_path)
    for number in (1, 2):
        used(server.files(), number)

    def full(*_: object) -> Path:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"), FetchedFiles(tmp_path / "served", 15, full).of(version(3)):
        pass
    assert server.kept == {"a-2"}


def test_what_a_process_left_that_died_while_it_fetched_goes_after_a_day(tmp_path: Path) -> None:
    server = Server(tmp_path)
    for name in ("tmp-dead", "tmp-at-work"):
        (server.folder / "served" / name / "part").mkdir(parents=True)
    os.utime(server.folder / "served" / "tmp-dead", (0, 0))
    used(server.files(), 1)
    assert server.kept == {"a-1", "tmp-at-work"}


def test_without_a_bound_all_stay_and_a_fetch_that_fails_keeps_nothing_in_use(tmp_path: Path) -> None:
    server = Server(tmp_path)
    for number in range(1, 6):
        used(server.files(None), number)
    assert len(server.kept) == 5

    def away(*_: object) -> Path:
        raise OSError("no route")

    with pytest.raises(OSError, match="route"), FetchedFiles(tmp_path / "served", 25, away).of(version(1)):
        pass
    used(server.files(), 6)
    used(server.files(), 7)
    assert server.kept == {"a-6", "a-7"}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_said_at_once_and_keeps_nothing_of_a_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    def full(artifact_uri: str, dst_path: str, tracking_uri: str) -> str:
        (Path(dst_path) / "half").write_bytes(bytes(10))
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # From a server, files come side by side, and MLflow gathers what fails as words.
        raise MlflowException(f"The following failures occurred: half {error}") if wrapped else error

    class Client:
        def get_model_version(self, name: str, version: str) -> ModelVersion:
            return ModelVersion(name, version, 0, source="mlflow-artifacts:/1")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", full)
    monkeypatch.setattr("steerline.tracking.registry.connect", lambda _: Client())
    files = FetchedFiles(tmp_path, None, partial(fetch, "http://127.0.0.1:9"))
    with pytest.raises(TrackingError, match="disk is full"), files.of(version(1)):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a-1.lock"]
