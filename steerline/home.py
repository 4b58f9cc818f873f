"""The folder that holds this machine's state: runs, the job ledger, the local stack."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "STEERLINE_HOME"
DEFAULT_HOME = ".steerline"


def home() -> Path:
    """`$STEERLINE_HOME`, else `.steerline` in the working directory; absolute, not created."""
    return Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).absolute()


def storage_folder(storage_path: str) -> Path:
    """A config's `cluster.storage_path` as an absolute path; a relative one lies under the Steerline home.

    A submitted job runs in a temporary copy of the folder it was submitted from, so the working directory is no place
    for results.
    """
    return home() / storage_path
