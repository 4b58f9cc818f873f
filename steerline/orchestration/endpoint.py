"""The endpoint of a local stack: a Serve config of the repository, on a loopback port that is free."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from steerline.errors import StackError
from steerline.orchestration.ports import HOST

STANDARD_FILE = Path("deploy") / "serve" / "simulation.yaml"
STANDARD_PORT = 8000
_KEPT = "endpoint.yaml"


def read(file: Path) -> dict[str, Any]:
    """A Serve config.

    Raises:
        StackError: there is no such file, or it is no Serve config.
    """
    try:
        config = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise StackError("the endpoint's config cannot be read", where=str(file), got=str(error)) from None
    if not isinstance(config, dict) or "applications" not in config:
        raise StackError(
            "this is no config of Ray Serve", where=str(file), expected="`applications`, as in " + str(STANDARD_FILE)
        )
    return config


def command(config: Mapping[str, Any], folder: Path, gcs_address: str, port: int) -> list[str]:
    """The command that deploys a Serve config and stays while it serves. It runs in the working directory, where the
    config's `import_path` is found.

    Args:
        config: the config. A copy that listens on loopback and `port` goes into the state folder.
        folder: the state folder.
        gcs_address: Ray's head.
        port: where to listen.
    """
    here = {**config, "http_options": {**config.get("http_options", {}), "host": HOST, "port": port}}
    copy = folder / _KEPT
    copy.write_text(yaml.safe_dump(here, sort_keys=False))
    return [sys.executable, "-m", "ray.serve.scripts", "run", str(copy), "--address", gcs_address]
