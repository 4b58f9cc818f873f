"""The data: is it there, and has it the columns that its format reads?"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

from steerline.config.data import FileData, HubData, PackagedData, ReviewFolderData, TreebankData
from steerline.orchestration.preflight import columns
from steerline.orchestration.preflight.checks_model import catalogued
from steerline.orchestration.preflight.core import Finding, ModelScene, failure
from steerline.orchestration.preflight.model_facts import hub_data_is_cached, hub_is_offline


def sources(scene: ModelScene) -> Iterator[Finding]:
    """Files, catalogue names and hub data sets."""
    for path, dataset in scene.datasets():
        match dataset.source:
            case FileData(path=pattern) if not _files(pattern):
                yield failure(
                    "the data file does not exist",
                    path=f"{path}.source.path",
                    got=f"{pattern}, read from {Path.cwd()}",
                    fix="paths are read from the folder that the job is started in",
                )
            case TreebankData(path=folder) | ReviewFolderData(path=folder) if not Path(folder).expanduser().is_dir():
                yield failure(
                    "the data set's folder does not exist",
                    path=f"{path}.source.path",
                    got=f"{folder}, read from {Path.cwd()}",
                    fix="unpack the authors' archive there, or name the folder that holds it",
                )
            case PackagedData(name=str(name)):
                yield from catalogued(name, f"{path}.source.name")
            case HubData(id=name) if hub_is_offline() and not hub_data_is_cached(name):
                yield failure(
                    "the data set is not in the hub's cache, and the network is switched off",
                    path=f"{path}.source.id",
                    got=f"{name}, with HF_HUB_OFFLINE set",
                    fix="fetch it where there is a network, or unset HF_HUB_OFFLINE",
                )


def templates(scene: ModelScene) -> Iterator[Finding]:
    """Columns that templates name. Read from the first row, where that is cheap."""
    for path, dataset in scene.datasets():
        try:
            wanted = columns.wanted(dataset.format)
        except ValueError as error:
            yield failure(
                "a template cannot be read",
                path=f"{path}.format",
                got=str(error),
                fix="write a brace twice to mean itself",
            )
            continue
        if isinstance(dataset.source, FileData):
            for file in _files(dataset.source.path)[:1]:
                yield from _missing(file, wanted, path)


def _missing(file: Path, wanted: dict[str, list[str]], path: str) -> Iterator[Finding]:
    try:
        present = columns.present(file)
    except (ValueError, OSError) as error:
        yield failure("the data file cannot be read", path=f"{path}.source.path", got=f"{file.name}: {error}")
        return
    for field, names in wanted.items():
        missing = [name for name in names if present is not None and name not in present]
        if missing:
            yield failure(
                f"{file.name} has no column {', '.join(f'`{name}`' for name in missing)}",
                path=f"{path}.format.{field}",
                got=", ".join(present or []),
                fix="name a column that is there",
            )


def _files(pattern: str) -> list[Path]:
    # `Path.glob` refuses absolute patterns.
    return sorted(Path(name) for name in glob.glob(str(Path(pattern).expanduser())))  # noqa: PTH207
