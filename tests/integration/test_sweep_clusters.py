"""Two clusters on one host, with a sweep on each at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steerline.config.sweep import SweepSpec
from steerline.orchestration import stack as stacks
from steerline.orchestration.stack import Stack
from steerline.sweeps.ledger import Ledger
from steerline.sweeps.sweep import sweep_folder
from steerline.tracking.queries import find_run
from tests.unit.sweeps.sweeps import SCALE, sweep_config

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0
NUM_TRIALS = 6


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Stack]:
    """A stack beside the session's."""
    folder = tmp_path / "second"
    running, _ = stacks.up(folder, num_cpus=1, standard_ports=False)
    yield running
    stacks.down(folder)


class Driver:
    """A process that runs a sweep on one of the clusters."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        folder.mkdir()
        config = sweep_config(space={SCALE: {"kind": "grid", "values": [float(n) for n in range(NUM_TRIALS)]}})
        config["base"]["cluster"] = {"storage_path": str(folder / "runs")}
        self.stack, self.spec = stack, SweepSpec.model_validate(config)
        self._seen, self._log = folder / "seen", folder / "log.txt"
        file = folder / "sweep.yaml"
        file.write_text(json.dumps(config))
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.sweep_process", str(file), str(self._seen)],
                cwd=ROOT,
                env={**os.environ, **stack.environment()},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Until it has ended, as it should."""
        assert self._process.wait(PATIENCE_S) == 0, self._log.read_text()

    def clusters(self) -> list[str]:
        """Where each trial ran."""
        return [line.split()[1] for line in self._seen.read_text().splitlines()]

    def kill(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self._process.wait()


def test_sweeps_on_two_clusters_of_one_host_stay_on_their_own(stack: Stack, second: Stack, tmp_path: Path) -> None:
    drivers = [Driver(stack, tmp_path / "on-first"), Driver(second, tmp_path / "on-second")]
    try:
        for driver in drivers:
            driver.wait()
    finally:
        for driver in drivers:
            driver.kill()
    for driver in drivers:
        assert driver.clusters() == [driver.stack.environment()["RAY_ADDRESS"]] * NUM_TRIALS
        folder = sweep_folder(driver.spec)
        assert {record.found.state for record in Ledger(folder).records.values()} == {"finished"}
        assert find_run(driver.stack.tracking_uri, folder.name).status == "FINISHED"
