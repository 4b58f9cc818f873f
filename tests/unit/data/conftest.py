"""A cache of its own for every test, and archives made on the spot."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import datasets
import pytest

from steerline.config.archive import ArchiveSpec


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that `cache_dir()` points to."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("STEERLINE_CACHE", str(folder))
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for `datasets`."""
    folder = tmp_path / "hub-cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the real pip takes for its only index."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def make_wheel(folder: Path, files: Mapping[str, str], name: str = "demo-data", version: str = "1.0") -> Path:
    """A wheel that holds `files`."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in files.items():
            wheel.writestr(member, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def make_tarball(path: Path, files: Mapping[str, str], links: Mapping[str, str] | None = None) -> Path:
    """A gzipped tarball that holds `files` and symbolic `links`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for member, text in files.items():
            info = tarfile.TarInfo(member)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
        for member, target in (links or {}).items():
            info = tarfile.TarInfo(member)
            info.type = tarfile.SYMTYPE
            info.linkname = target
            tar.addfile(info)
    return path


def spec_of(path: Path, member: str, **changes: str) -> ArchiveSpec:
    """The spec that pins `path`, as the file of demo-data 1.0."""
    fields = {
        "package": "demo-data",
        "version": "1.0",
        "member": member,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "registry": "npm" if path.suffix == ".tgz" else "pypi",
    }
    return ArchiveSpec.model_validate({**fields, **changes})
