"""The process of a job of simulations, with workers and a tracking server of paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from steerline.config.cluster import ClusterSpec
from steerline.config.load import Loaded
from steerline.config.simulate import SimulateSpec
from steerline.config.simulation_running import BudgetSpec
from steerline.errors import SimulationError, TrainingError
from steerline.experiments import driver as module
from steerline.experiments.driver import PAUSED_EXIT_CODE, SimulateDriver
from steerline.experiments.played import Played
from steerline.simulation.scenarios.public_goods import PublicGoods
from steerline.tracking.references import RunRef
from steerline.training.job import Outcome
from tests.unit.experiments.jobs import games

Works = Sequence[Callable[[], list[Played]]]
SEEDS = (0, 1, 2)


class Server:
    """What the tracking server is told of one job."""

    def __init__(self) -> None:
        self.opened = 0
        self.parents: dict[str, str] = {}
        self.recorded: list[dict[str, Played]] = []
        self.statuses: list[str] = []

    def open_run(self, loaded: Loaded[SimulateSpec], parents: dict[str, str]) -> RunRef:
        self.opened += 1
        self.parents = parents
        return RunRef("http://127.0.0.1:1", "1", "r")

    def record(self, recorder: Any, children: Any, found: dict[Any, Played], folder: Path) -> None:
        self.recorded.append({cell.name: played for cell, played in found.items()})

    def finish(self, run: RunRef, status: str, spool: Path) -> None:
        self.statuses.append(status)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    told = Server()
    monkeypatch.setattr(module, "open_run", told.open_run)
    monkeypatch.setattr(module, "record", told.record)
    monkeypatch.setattr(module, "finish", told.finish)
    monkeypatch.setattr(module, "Recorder", lambda *_: nullcontext())
    monkeypatch.setattr(module, "Children", lambda run: None)
    return told


def here(works: Works, cluster: ClusterSpec) -> list[list[Played]]:
    """Workers that are this process, the last of them first."""
    done = [work() for work in reversed(works)]
    return done[::-1]


def driver(
    folder: Path, workers: Any = here, num_workers: int = 2, budgets: BudgetSpec | None = None, **fields: Any
) -> SimulateDriver:
    job = games(cluster=ClusterSpec(storage_path=str(folder), num_workers=num_workers), **fields)
    if budgets is not None:
        job = job.model_copy(update={"simulation": job.simulation.model_copy(update={"budgets": budgets})})
    return SimulateDriver(Loaded(job, {}, (Path("x.yaml"),)), workers)


def outcome(made: SimulateDriver) -> Outcome:
    found = Outcome.load(made.folder)
    assert found is not None
    return found


def test_each_worker_plays_its_share_and_all_of_it_is_recorded(tmp_path: Path, server: Server) -> None:
    shares: list[int] = []

    def counting(works: Works, cluster: ClusterSpec) -> list[list[Played]]:
        done = here(works, cluster)
        shares.extend(map(len, done))
        return done

    job = driver(tmp_path, counting, seeds=SEEDS)
    assert job.run() == 0
    assert shares == [2, 1]
    (recorded,) = server.recorded
    assert len(recorded) == 3
    assert server.statuses == ["FINISHED"]
    ended = outcome(job)
    assert (ended.state, ended.step, ended.num_steps) == ("finished", 3, 3)
    last = [played.last["mean_contribution"] for played in recorded.values()]
    assert ended.metrics["mean_contribution"] == pytest.approx(sum(last) / 3)
    assert (job.folder / "config.resolved.json").is_file()


def test_what_is_finished_opens_no_run_again(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert driver(tmp_path).run() == 0
    assert driver(tmp_path, lambda *_: pytest.fail("played again")).run() == 0
    assert server.opened == 1
    assert "finished already" in capsys.readouterr().out


def test_fewer_simulations_than_workers_take_as_many_workers(tmp_path: Path, server: Server) -> None:
    asked: list[int] = []

    def counting(works: Works, cluster: ClusterSpec) -> list[list[Played]]:
        asked.append(len(works))
        return here(works, cluster)

    assert driver(tmp_path, counting, num_workers=4, seeds=(0, 1)).run() == 0
    assert asked == [2]


def test_a_paused_simulation_leaves_the_job_to_be_gone_on_with(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    poor, job = driver(tmp_path, budgets=BudgetSpec(max_seconds=1e-9), seeds=SEEDS), driver(tmp_path, seeds=SEEDS)
    assert poor.run() == PAUSED_EXIT_CODE == 130
    stopped = outcome(poor)
    assert (stopped.state, stopped.step, stopped.num_steps) == ("stopped", 0, 3)
    assert "max_seconds" in str(stopped.ended_because)
    assert "Submit again to go on" in capsys.readouterr().out
    assert poor.folder == job.folder, "limits name no other run"
    assert job.run() == 0
    assert server.statuses == ["KILLED", "FINISHED"]


def test_one_that_fails_fails_the_job_after_the_others_were_kept(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = PublicGoods.resolve

    def faulty(self: PublicGoods, state: Any, actions: Any, rng: Any) -> Any:
        if rng.seed == 1:
            raise KeyError("pot")
        return resolve(self, state, actions, rng)

    with monkeypatch.context() as patch:
        patch.setattr(PublicGoods, "resolve", faulty)
        with pytest.raises(SimulationError, match="1 of 3 simulations failed"):
            driver(tmp_path, seeds=SEEDS).run()
    assert sorted(played.state for played in server.recorded[0].values()) == ["ended", "ended", "failed"]
    failed = outcome(driver(tmp_path, seeds=SEEDS))
    assert (failed.state, failed.exit_code) == ("failed", SimulationError.exit_code)
    assert driver(tmp_path, seeds=SEEDS).run() == 0
    assert server.statuses == ["FAILED", "FINISHED"]


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [(TrainingError("the worker died"), "FAILED", "failed"), (KeyboardInterrupt(), "KILLED", None)],
)
def test_the_run_is_closed_whatever_ends_the_workers(
    error: BaseException, status: str, state: str | None, tmp_path: Path, server: Server
) -> None:
    def dying(works: Works, cluster: ClusterSpec) -> list[list[Played]]:
        raise error

    job = driver(tmp_path, dying)
    with pytest.raises(type(error)):
        job.run()
    assert server.statuses == [status]
    found = Outcome.load(job.folder)
    assert (found.state if found else None) == state
