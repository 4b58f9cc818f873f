"""One real stack for the whole session: a Ray head with token authentication and an MLflow server, on loopback."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

# Ray reads these when it is imported, which test modules may do while they are collected.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_AUTH_MODE"] = "token"
# How long a request waits for the news of which replica has its model; then it goes to any.
os.environ["RAY_SERVE_MULTIPLEXED_MODEL_ID_MATCHING_TIMEOUT_S"] = "60"

import ray

from steerline.orchestration import stack as stacks

_NUM_CPUS = 3


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stacks.Stack]:
    """The running stack; its client environment is exported while the session lasts."""
    folder = tmp_path_factory.mktemp("stack")
    running, _ = stacks.up(folder, num_cpus=_NUM_CPUS, standard_ports=False)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment().items():
            patch.setenv(name, value)
        yield running
        # A process that is connected to a Ray head is ended by Ray itself when the head goes.
        if ray.is_initialized():
            ray.shutdown()
    stacks.down(folder)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a `jobs` package whose only job prints, sleeps or fails as its config's tags say; the working
    directory while the test runs."""
    root = tmp_path / "repository"
    shutil.copytree(
        Path(__file__).parent / "scripted_jobs", root / "jobs", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.chdir(root)
    return root
