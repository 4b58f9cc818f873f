"""The metrics of a run as lines of JSON in its folder: what figures are drawn from, server or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


class History:
    """Appends metrics to `metrics.jsonl`. A step that was computed again after a restart is simply there twice.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"

    def append(self, values: Mapping[str, float], step: int) -> None:
        """Add the values of a step."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "values": dict(values)}) + "\n")


def read_history(folder: Path) -> dict[str, dict[int, float]]:
    """Every metric's values by step, in order of step; the last record of a step counts.

    A last line that a killed process left unfinished is passed over.
    """
    path = folder / "metrics.jsonl"
    found: dict[str, dict[int, float]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        for name, value in record["values"].items():
            found.setdefault(name, {})[int(record["step"])] = float(value)
    return {name: dict(sorted(steps.items())) for name, steps in found.items()}
