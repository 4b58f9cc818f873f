"""Where a run's code came from: git state, installed packages, machine and person."""

from __future__ import annotations

import getpass
import hashlib
import importlib.metadata
import platform
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from steerline.tracking.redact import Redactor

_LARGEST_DIFF = 512 * 1024


@dataclass(frozen=True)
class GitState:
    """The commit a working tree stands on, and what differs from it."""

    commit: str
    branch: str
    is_dirty: bool
    diff: str
    """Against the commit, with secrets masked, and the names of untracked files."""
    diff_sha256: str = ""
    """Of the same before masking; empty for a clean tree."""
    remote: str = ""
    """Address of `origin` without credentials; empty where there is none."""


@dataclass(frozen=True)
class Provenance:
    """All that is needed to tell two runs of the same config apart."""

    git: GitState | None
    packages: str
    """One `name==version` a line, sorted."""
    user: str
    host: str
    python: str

    @property
    def packages_digest(self) -> str:
        """SHA-256 of the package list."""
        return hashlib.sha256(self.packages.encode()).hexdigest()


def collect(repository: Path | None = None, redactor: Redactor | None = None) -> Provenance:
    """Look around.

    Args:
        repository: a folder of the git working tree; none looks at the current folder. Outside of one, and without
            git, there is no git state.
        redactor: masks secrets in the diff.
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # A container may run under a number without a name.
        user = "unknown"
    return Provenance(
        git=_git_state(repository or Path.cwd(), redactor or Redactor.from_environment()),
        packages=_packages(),
        user=user,
        host=socket.gethostname(),
        python=platform.python_version(),
    )


def to_metadata(seen: Provenance) -> dict[str, str]:
    """What a submission tells its job, whose working directory has no `.git`: plain facts, of any size but the diff."""
    facts = {"user": seen.user, "host": seen.host, "packages_digest": seen.packages_digest}
    if seen.git is None:
        return facts
    return facts | {
        "git_commit": seen.git.commit,
        "git_branch": seen.git.branch,
        "git_dirty": str(seen.git.is_dirty).lower(),
        "git_diff_sha256": seen.git.diff_sha256,
        "git_remote": seen.git.remote,
    }


def from_metadata(metadata: Mapping[str, str], here: Provenance) -> Provenance:
    """The provenance of a submitted job: the person and the code of the submission, all else as found `here`."""
    commit = metadata.get("git_commit")
    git = None
    if commit is not None:
        git = GitState(
            commit=commit,
            branch=metadata.get("git_branch", ""),
            is_dirty=metadata.get("git_dirty") == "true",
            diff="",
            diff_sha256=metadata.get("git_diff_sha256", ""),
            remote=metadata.get("git_remote", ""),
        )
    return replace(here, git=git, user=metadata.get("user", here.user))


def _packages() -> str:
    found = {(d.metadata["Name"] or "").lower(): d.version for d in importlib.metadata.distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found.items()) if name)


def _git_state(folder: Path, redactor: Redactor) -> GitState | None:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    status = _git(folder, "status", "--porcelain") or ""
    diff = (_git(folder, "diff", "HEAD") or "") if status else ""
    untracked = [line[3:] for line in status.splitlines() if line.startswith("??")]
    digest = hashlib.sha256("\n".join([diff, *untracked]).encode()).hexdigest() if status else ""
    # Masked before it is shortened, so that no secret is cut in two and slips through.
    diff = redactor.text(diff)
    if len(diff) > _LARGEST_DIFF:
        diff = f"{diff[:_LARGEST_DIFF]}\n[shortened: {len(diff)} characters in all]\n"
    if untracked:
        diff += "\n# untracked files\n" + "".join(f"# {name}\n" for name in untracked)
    return GitState(
        commit=commit.strip(),
        branch=(_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        is_dirty=bool(status),
        diff=diff,
        diff_sha256=digest,
        remote=redactor.text(_without_credentials((_git(folder, "config", "remote.origin.url") or "").strip())),
    )


def _without_credentials(address: str) -> str:
    """A remote's address without user, password and query, where tokens are kept."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address  # a path, or git@host:path
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=30, check=False, errors="replace"
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
