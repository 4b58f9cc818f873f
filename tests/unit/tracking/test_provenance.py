from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from steerline.tracking.provenance import collect, from_metadata, to_metadata
from steerline.tracking.redact import MASK, Redactor


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "a.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def test_a_clean_tree_has_a_commit_and_no_diff(repository: Path) -> None:
    git = collect(repository).git
    assert git is not None
    assert len(git.commit) == 40
    assert git.branch == "main"
    assert not git.is_dirty
    assert git.diff == ""


def test_a_dirty_tree_has_a_masked_diff_and_names_untracked_files(repository: Path) -> None:
    (repository / "a.py").write_text('x = 2\napi_key = "0123456789"\n')
    (repository / "new.py").write_text("")
    git = collect(repository, Redactor()).git
    assert git is not None
    assert git.is_dirty
    assert "+x = 2" in git.diff
    assert MASK in git.diff
    assert "0123456789" not in git.diff
    assert "# new.py" in git.diff


def test_a_huge_diff_is_shortened(repository: Path) -> None:
    (repository / "a.py").write_text("line of text\n" * 200_000)
    git = collect(repository, Redactor()).git
    assert git is not None
    assert len(git.diff) < 600_000
    assert "shortened" in git.diff


def test_a_diffs_digest_tells_two_states_of_a_tree_apart(repository: Path) -> None:
    digests = []
    for text in ("x = 1\n", "x = 2\n", "x = 3\n"):
        (repository / "a.py").write_text(text)
        git = collect(repository, Redactor()).git
        assert git is not None
        digests.append(git.diff_sha256)
    assert digests[0] == ""
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://ghp_abcdefghijklmnopqrstuvwxyz@github.com/a/b.git", "https://github.com/a/b.git"),
        ("https://user:hunter2@git.example:8443/a/b?token=hunter2", "https://git.example:8443/a/b"),
        ("ssh://git:hunter2@git.example/a/b", "ssh://git.example/a/b"),
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ("https://github.com/a/b@c", "https://github.com/a/b@c"),
    ],
)
def test_the_remotes_address_is_recorded_without_credentials(repository: Path, address: str, shown: str) -> None:
    subprocess.run(["git", "-C", str(repository), "remote", "add", "origin", address], check=True)
    git = collect(repository, Redactor()).git
    assert git is not None
    assert git.remote == shown


def test_a_job_has_the_submissions_person_and_code_and_its_own_machine(repository: Path, tmp_path: Path) -> None:
    (repository / "a.py").write_text("x = 2\n")
    there = replace(collect(repository, Redactor()), user="ada", host="laptop")
    here = replace(collect(repository, Redactor()), user="ray", host="worker")
    metadata = to_metadata(there)
    assert all(isinstance(value, str) for value in metadata.values())
    assert "x = 2" not in str(metadata), "job metadata is shown to whoever lists jobs"
    told = from_metadata(metadata, here)
    assert there.git is not None
    assert told.git == replace(there.git, diff="")
    assert (told.user, told.host) == ("ada", "worker")
    assert from_metadata({}, here) == replace(here, git=None)


def test_outside_of_git_there_is_no_git_state_and_the_rest_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    seen = collect(tmp_path)
    assert seen.git is None
    assert "pytest==" in seen.packages
    assert len(seen.packages_digest) == 64
    assert seen.user
    assert seen.host
