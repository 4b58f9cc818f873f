"""The images' recipes pass the Dockerfile linter, and copy only what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steerline.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfile_passes_hadolint(path: Path) -> None:
    # DL3008: Debian keeps only the newest version of a package, so a pin breaks the build when it moves.
    # DL3066: the numeric id of the user is fixed in the useradd line above it.
    linter = Path(sys.executable).parent / "hadolint"
    result = subprocess.run(
        [str(linter), "--ignore", "DL3008", "--ignore", "DL3066", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfile_copies_only_what_the_repository_holds(path: Path) -> None:
    for line in path.read_text().splitlines():
        words = line.split()
        if words[:1] == ["COPY"]:
            sources = [word for word in words[1:-1] if not word.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), f"{path.name} copies {source}, which is not in the repository"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_image_does_not_run_as_root(path: Path) -> None:
    users = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("USER ")]
    assert users, f"{path.name} never leaves root"
    assert users[-1] != "root"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_commands_of_ours_in_an_image_exist(path: Path) -> None:
    for line in path.read_text().splitlines():
        if line.startswith("RUN steerline "):
            ran = CliRunner().invoke(app, [*line.split()[2:], "--help"])
            assert ran.exit_code == 0, ran.output
