"""Simulations as trials: those with the same models stand in the same batches, whatever their agents' steering."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from steerline.config.inference import BackendSpec, LocalBackendSpec, ServedBackendSpec
from steerline.config.simulate import SimulateSpec
from steerline.config.sweep_points import Trial
from steerline.errors import SimulationError
from steerline.experiments.host import play_all
from steerline.experiments.played import Played
from steerline.experiments.record import means, numbers
from steerline.home import storage_folder
from steerline.inference.backends.open import open_backend
from steerline.inference.request import Backend
from steerline.simulation.cells import Cell, cells
from steerline.sweeps.kinds import SharedTrials
from steerline.sweeps.ledger import Found

if TYPE_CHECKING:
    from steerline.models.load import LoadedModel


class SimulateTrials(SharedTrials):
    """Simulations as trials; a trial's metrics are means over its simulations."""

    together = 16

    def __init__(self) -> None:
        self._loaded: dict[str, LoadedModel] = {}
        self._threads = 1

    def evaluate(self, trials: Sequence[Trial]) -> list[Found]:
        """Play the trials' simulations, or take what an earlier attempt has left."""
        began = time.monotonic()
        shares = {trial.name: self._cells(trial) for trial in trials}
        first = trials[0].spec
        assert isinstance(first, SimulateSpec)
        self._threads = max(1, int(first.cluster.cpus_per_worker))
        folder = storage_folder(first.cluster.storage_path) / "simulations"
        everything = {cell.name: cell for share in shares.values() for cell in share}
        played = play_all(list(everything.values()), folder, first.together, _say, self._opened)
        by_name = {one.name: one for one in played}
        seconds = (time.monotonic() - began) / len(trials)
        return [_found([by_name[cell.name] for cell in shares[trial.name]], seconds) for trial in trials]

    def _cells(self, trial: Trial) -> list[Cell]:
        assert isinstance(trial.spec, SimulateSpec)
        return cells(trial.spec)

    def _opened(self, cell: Cell) -> Mapping[str, Backend]:
        """The models of a simulation. Weights stay loaded from one call to the next."""
        return {alias: self._open(ref.backend) for alias, ref in cell.spec.models.items()}

    def _open(self, spec: BackendSpec | ServedBackendSpec) -> Backend:
        if not isinstance(spec, LocalBackendSpec):
            return open_backend(spec)
        import torch

        from steerline.inference.backends.local import LocalBackend

        key = spec.model_dump_json()
        if key not in self._loaded:
            torch.set_num_threads(self._threads)
            self._loaded[key] = LocalBackend.load(spec)
        return LocalBackend(self._loaded[key], spec)


def _found(played: Sequence[Played], seconds: float) -> Found:
    """Means over a trial's simulations.

    Raises:
        SimulationError: one of them did not come to its end.
    """
    unfinished = next((one for one in played if not one.is_final), None)
    if unfinished is not None:
        raise SimulationError(
            f"a simulation is {unfinished.state}", where=unfinished.name, got=unfinished.reason, expected="ended"
        )
    used = sum(one.efficiency.get(name, 0.0) for one in played for name in ("prompt_tokens", "completion_tokens"))
    return Found("finished", metrics=means([numbers(one) for one in played]), seconds=seconds, tokens=int(used))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
