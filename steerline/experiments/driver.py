"""The process of a job of simulations: it opens the run, shares the simulations out, and closes the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from steerline.config.cluster import ClusterSpec
from steerline.config.inference import LocalBackendSpec
from steerline.config.load import Loaded
from steerline.config.model import ModelSpec
from steerline.config.render import resolved_json, run_name
from steerline.config.simulate import SimulateSpec
from steerline.errors import SimulationError, SteerlineError
from steerline.experiments.host import play_all
from steerline.experiments.played import Played
from steerline.experiments.record import means, record, table
from steerline.home import storage_folder
from steerline.models.load import prepare
from steerline.models.sources import describe
from steerline.simulation.cells import Cell, cells
from steerline.tracking.children import Children
from steerline.tracking.recorder import Recorder
from steerline.tracking.references import RunRef, run_url
from steerline.tracking.runs import finish
from steerline.training.job import Outcome
from steerline.training.opening import open_run

Workers = Callable[[Sequence[Callable[[], list[Played]]], ClusterSpec], list[list[Played]]]
"""Runs functions side by side, each in a worker with the resources of a cluster spec, again where that worker dies."""

PAUSED_EXIT_CODE = 130


class SimulateDriver:
    """Carries a job of simulations out.

    Args:
        loaded: the config.
        workers: where the shares of it run.
    """

    def __init__(self, loaded: Loaded[SimulateSpec], workers: Workers) -> None:
        self._loaded, self._workers = loaded, workers
        self.name = run_name(loaded.spec)
        self.folder = storage_folder(loaded.spec.cluster.storage_path) / self.name
        self._cells = cells(loaded.spec)

    def run(self) -> int:
        """Play what is left to play. Returns the exit code: 0, or 130 where something paused.

        Raises:
            SteerlineError: whatever stood in the way, also of a single simulation; the run is closed as FAILED.
        """
        earlier = Outcome.load(self.folder)
        if earlier is not None and earlier.state == "finished":
            _say(f"steerline: {self.name} is finished already: nothing to do")
            return 0
        spec = self._loaded.spec
        for model in self._models():
            _say(f"steerline: making the model ready: {describe(model.source)}")
            prepare(model)
        parents = {f"model_{n}": describe(model.source) for n, model in enumerate(self._models())}
        run = open_run(self._loaded, parents)
        _say(f"steerline: recorded at {run_url(run)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.resolved.json").write_text(resolved_json(spec))
        return self._play_and_close(run)

    def _play_and_close(self, run: RunRef) -> int:
        status, spool = "FAILED", self.folder / "spool"
        try:
            found = dict(zip(self._cells, self._played(), strict=True))
            children = Children(run) if len(found) > 1 else None
            with Recorder(run, spool) as recorder:
                record(recorder, children, found, self.folder)
            outcome = self._outcome(list(found.values()))
            outcome.save(self.folder)
            _say(table(found).rstrip())
            status = {"finished": "FINISHED", "stopped": "KILLED"}[outcome.state]
            return outcome.exit_code
        except SteerlineError as error:
            Outcome(self.name, "failed", error=str(error), exit_code=error.exit_code).save(self.folder)
            raise
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            finish(run, status, spool)

    def _played(self) -> list[Played]:
        """Every simulation's result, in the order of the cells: each worker takes every n-th."""
        spec, count = self._loaded.spec, self._loaded.spec.cluster.num_workers
        shares = [share for n in range(count) if (share := self._cells[n::count])]
        works = [partial(_in_worker, share, self.folder, spec.together, spec.cluster) for share in shares]
        by_name = {played.name: played for share in self._workers(works, spec.cluster) for played in share}
        return [by_name[cell.name] for cell in self._cells]

    def _outcome(self, found: Sequence[Played]) -> Outcome:
        """How the job ended.

        Raises:
            SimulationError: a simulation failed.
        """
        failed = [played for played in found if played.state == "failed"]
        if failed:
            raise SimulationError(
                f"{len(failed)} of {len(found)} simulations failed; the others are kept",
                where=failed[0].name,
                got=failed[0].reason,
                fix="submit again: it goes on with those that have not ended",
            )
        values = means([played.last for played in found])
        open_ones = [played for played in found if not played.is_final]
        files = {"simulations": str(self.folder)}
        if not open_ones:
            return Outcome(self.name, "finished", len(found), len(found), values, files)
        reason = f"{len(open_ones)} of {len(found)} simulations are {open_ones[0].state}: {open_ones[0].reason}"
        _say(f"steerline: {reason}. Submit again to go on.")
        done = len(found) - len(open_ones)
        return Outcome(
            self.name, "stopped", done, len(found), values, files, exit_code=PAUSED_EXIT_CODE, ended_because=reason
        )

    def _models(self) -> list[ModelSpec]:
        """The models that workers load, each once."""
        backends = (ref.backend for cell in self._cells for ref in cell.spec.models.values())
        local = (backend.model for backend in backends if isinstance(backend, LocalBackendSpec))
        return list({model.model_dump_json(): model for model in local}.values())


def _in_worker(share: Sequence[Cell], folder: Path, together: int, cluster: ClusterSpec) -> list[Played]:
    if any(cell.spec.models for cell in share):
        import torch

        torch.set_num_threads(max(1, int(cluster.cpus_per_worker)))
    return play_all(share, folder, together, _say)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
