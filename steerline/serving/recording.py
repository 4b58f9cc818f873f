"""A simulation that ended in the service, in MLflow as one from a job is: numbers, files, figures, traces, lineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from steerline.config.inference import BackendSpec, LocalBackendSpec, OpenAIBackendSpec, ServedBackendSpec
from steerline.config.render import resolved
from steerline.config.simulation_running import ModelRef
from steerline.config.tracking import TrackingSpec
from steerline.errors import TrackingError
from steerline.experiments.played import keep
from steerline.experiments.record import record as record_played
from steerline.models.sources import describe
from steerline.serving.experiments import EXPERIMENT
from steerline.serving.simulations import RECORDED
from steerline.serving.worlds import replayed
from steerline.simulation.cells import Cell
from steerline.simulation.result import Result
from steerline.simulation.store.base import Store
from steerline.tracking.recorder import Recorder
from steerline.tracking.references import RunRef, run_url
from steerline.tracking.runs import finish, start_run

KIND = "simulation"
_STATUS = {"ended": "FINISHED", "stopped": "KILLED"}


@dataclass(frozen=True)
class MlflowRecording:
    """Records simulations as runs of MLflow. A run is found again by its name, which is the simulation's.

    Args:
        tracking: the server.
        spool: folder for what is on its way to it.
        models: the served models, by name: their weights are a run's parents.
        timeout_s: how long to wait for a server that is away; the simulation is recorded later then.
    """

    tracking: TrackingSpec
    spool: Path
    models: Mapping[str, BackendSpec]
    timeout_s: float = 10.0

    def record(self, store: Store, sim: str) -> str:
        """Record one; the address of its page.

        Raises:
            TrackingError: the server is away or refuses; nothing is lost by it, for the store has everything.
            SimulationError: the store holds no such simulation.
        """
        result = replayed(store, sim)
        run = self._begin(store, result)
        with TemporaryDirectory(prefix="steerline-simulation-") as folder:
            cell = Cell(sim, {}, result.spec)
            home = Path(folder) / sim
            home.mkdir()
            seconds = sum(float(entry.payload.get("seconds", 0.0)) for entry in store.operations(sim))
            played = keep(cell, result, store, home, seconds)
            with Recorder(run, self.spool) as recorder:
                record_played(recorder, None, {cell: played}, Path(folder))
            if not finish(run, _STATUS[result.status], self.spool, timeout_s=self.timeout_s):
                raise TrackingError("the tracking server has not taken everything", where=sim)
        return run_url(run)

    def _begin(self, store: Store, result: Result) -> RunRef:
        found = store.find(result.sim)
        experiment = next((o.payload["name"] for o in store.operations(result.sim) if o.kind == EXPERIMENT), None)
        tags = {"steerline.hash": result.hash, "steerline.state": result.status, "steerline.why": result.reason}
        return start_run(
            self.tracking,
            run_name=result.sim,
            kind=KIND,
            config=resolved(result.spec),
            config_hash=None if found is None else found.fingerprint,
            parents=self._parents(store, result),
            timeout_s=self.timeout_s,
            tags=tags if experiment is None else {**tags, "steerline.experiment": str(experiment)},
        )

    def _parents(self, store: Store, result: Result) -> dict[str, str]:
        parents = {f"model_{alias}": self._described(ref) for alias, ref in result.spec.models.items()}
        forked = next((str(o.payload["from"]) for o in store.operations(result.sim) if o.kind == "forked"), None)
        if forked is None:
            return parents
        recorded = next((str(o.payload["at"]) for o in store.operations(forked) if o.kind == RECORDED), None)
        # By the id of its run, so that lineage leads there; by its name where it has no run.
        return {**parents, "simulation": forked if recorded is None else recorded.rpartition("/")[2]}

    def _described(self, ref: ModelRef) -> str:
        backend: Any = ref.backend
        if isinstance(backend, ServedBackendSpec):
            backend = self.models.get(backend.name, backend)
        if isinstance(backend, LocalBackendSpec):
            return describe(backend.model.source)
        if isinstance(backend, OpenAIBackendSpec):
            return f"{backend.model} at {backend.url}"
        return backend.name if isinstance(backend, ServedBackendSpec) else str(backend.kind)
