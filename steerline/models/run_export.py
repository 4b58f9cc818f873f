"""Where a run of this machine's storage has exported its model. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from steerline.config.model import RunModel
from steerline.errors import ModelError
from steerline.home import storage_folder


def run_exports(source: RunModel) -> list[Path]:
    """The exports on this machine that a run's name or beginning fits: that of exactly this name, or all it begins."""
    storage = storage_folder(source.storage_path)
    exact = storage / source.run / "export"
    if exact.is_dir():
        return [exact]
    return sorted(folder for folder in storage.glob(f"{source.run}*/export") if folder.is_dir())


def run_export(source: RunModel) -> Path:
    """The folder that a run has exported.

    Raises:
        ModelError: there is none, or several runs fit the name.
    """
    found = run_exports(source)
    if len(found) == 1:
        return found[0]
    config = source.trained_by or "its config"
    raise ModelError(
        "more than one run fits this name" if found else "no run of this name has exported a model here",
        where="model.source.run",
        got=source.run,
        expected=", ".join(folder.parent.name for folder in found)
        or f"a finished run in {storage_folder(source.storage_path)}",
        fix="type more of the name" if found else f"train it: `python -m jobs.finetune {config}`",
    )
