"""What a job is made of: the folder that travels, the entrypoint, its environment, and the equal `ray job submit`."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from steerline.errors import SubmitError
from steerline.home import HOME_VARIABLE, home
from steerline.orchestration.stack import STOP_WAIT_S
from steerline.orchestration.target import Target

# Ray also leaves out what .gitignore names.
EXCLUDES = (".git", ".venv", ".steerline", "__pycache__", ".*_cache")


@dataclass(frozen=True)
class Package:
    """A job ready to be submitted."""

    submission_id: str
    root: Path
    """Folder that becomes the job's working directory."""
    arguments: tuple[str, ...]
    """The entrypoint as a list."""
    variables: Mapping[str, str]
    """Environment of the driver and all workers."""
    metadata: Mapping[str, str]

    @property
    def entrypoint(self) -> str:
        """The entrypoint as the shell command that Ray runs."""
        return shlex.join(self.arguments)

    @property
    def runtime_env(self) -> dict[str, Any]:
        """Ray's runtime environment."""
        return {"working_dir": str(self.root), **self._runtime_env_without_folder}

    @property
    def _runtime_env_without_folder(self) -> dict[str, Any]:
        return {"excludes": list(EXCLUDES), "env_vars": dict(self.variables)}

    def plain_command(self, target: Target) -> str:
        """The `ray job submit` line that does the same, ready to be pasted into a shell in the current folder."""
        folder = os.path.relpath(self.root)
        command = [
            *("ray", "job", "submit", "--address", target.address, "--submission-id", self.submission_id),
            *("--working-dir", folder if not folder.startswith("..") else str(self.root)),
            *("--runtime-env-json", json.dumps(self._runtime_env_without_folder)),
            *("--metadata-json", json.dumps(dict(self.metadata))),
            *("--", *self.arguments),
        ]
        prefix = [f"{name}={shlex.quote(value)}" for name, value in target.client_variables.items()]
        return " ".join([*prefix, shlex.join(command)])


def find_root(start: Path, kind: str) -> Path:
    """The nearest folder, from `start` upwards, that holds the job's entry point.

    Raises:
        SubmitError: there is none.
    """
    entry = Path("jobs") / f"{kind}.py"
    for folder in (start, *start.parents):
        if (folder / entry).is_file():
            return folder
    raise SubmitError(
        f"no folder with {entry} from here upwards",
        where=str(start),
        fix="run this inside a clone of the Steerline repository: its `jobs` folder travels with the job",
    )


def inside(root: Path, file: Path) -> str:
    """A file's path below the folder that travels.

    Raises:
        SubmitError: it would stay behind.
    """
    resolved = file.resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise SubmitError(
            "this file would not travel with the job",
            where=str(file),
            expected=f"a file under {root}",
            fix=f"cp {shlex.quote(str(file))} {shlex.quote(str(root / 'jobs' / 'configs'))}/ and submit the copy",
        )
    relative = resolved.relative_to(root.resolve())
    left_out = next((part for part in relative.parts if _excluded(part)), None)
    if left_out is not None:
        raise SubmitError(
            f"this file would not travel with the job: {left_out} is left out of the working directory",
            where=str(file),
            fix=f"move it to {root / 'jobs' / 'configs'}",
        )
    return relative.as_posix()


def job_variables(target: Target, tracking_uri: str | None) -> dict[str, str]:
    """Environment of the driver and its workers; holds no secret, since anyone who sees the job sees it.

    Args:
        target: the cluster.
        tracking_uri: the MLflow server of the config; none takes `MLFLOW_TRACKING_URI` of the caller.

    Raises:
        SubmitError: the server's address holds a password.
    """
    uri = tracking_uri or target.environment.get("MLFLOW_TRACKING_URI")
    variables = {HOME_VARIABLE: str(home())} if target.is_local else {}
    # Ray sends SIGTERM and then waits this long; it reads the variable from the job's own environment.
    variables["RAY_JOB_STOP_WAIT_TIME_S"] = str(STOP_WAIT_S)
    if not uri:
        return variables
    if urlsplit(uri).password:
        raise SubmitError(
            "the MLflow address holds a password, and everyone who can list jobs would see it",
            where="MLFLOW_TRACKING_URI",
            expected="an address without credentials",
            fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment of the cluster's nodes",
        )
    return {**variables, "MLFLOW_TRACKING_URI": uri}


def entrypoint(kind: str, config: str, overrides: Sequence[str]) -> tuple[str, ...]:
    """The command that runs a job of this kind in the travelling folder."""
    sets = [part for override in overrides for part in ("--set", override)]
    return ("python", "-m", f"jobs.{kind}", config, *sets)


def _excluded(part: str) -> bool:
    return any(Path(part).match(pattern) for pattern in EXCLUDES)
