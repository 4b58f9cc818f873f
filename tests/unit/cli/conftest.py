from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from steerline.cli.app import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def steerline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    # The command line puts the folder there.
    monkeypatch.setattr(sys, "path", [*sys.path])
    # Set now, so that it is taken away again afterwards should a command set it.
    monkeypatch.setenv("STEERLINE_TRACEBACK", "")
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["steerline", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        code = left.value.code
        printed = capsys.readouterr()
        return Ran(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config of synthetic data and a random model: nothing has to be there."""
    path = tmp_path / "demo.yaml"
    path.write_text(
        """
name: demo
model: {source: {kind: random, architecture: llama}}
data:
  train: [{source: {kind: synthetic, generator: arithmetic, size: 20}, format: {kind: task, task: arithmetic}}]
training: {num_steps: 5, global_batch_size: 8, micro_batch_size: 2}
cluster: {num_workers: 2}
"""
    )
    return path
