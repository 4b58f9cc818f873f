"""The folder that holds this machine's state: the local stack, the job ledger, runs."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "STEERLINE_HOME"
DEFAULT_HOME = ".steerline"


def home() -> Path:
    """`$STEERLINE_HOME`, else `.steerline` in the working directory; absolute, not created."""
    return Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).absolute()
