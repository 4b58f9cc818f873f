"""Tracking against an MLflow server on PostgreSQL, whose database goes away in mid-run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from steerline.config.tracking import TrackingSpec
from steerline.tracking import queries
from steerline.tracking.recorder import Recorder
from steerline.tracking.references import RunRef
from steerline.tracking.runs import start_run
from steerline.tracking.spool import replay
from tests.integration.mlflow_fixture import MlflowServer, Postgres

pytest.importorskip("psycopg", reason="MLflow reaches PostgreSQL through psycopg, which is not installed")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("initdb") is None, reason="no PostgreSQL server on this machine"),
]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    database = Postgres()
    database.start()
    yield database
    database.remove()


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        server = MlflowServer(tmp_path_factory.mktemp("mlflow"), database.uri)
        server.start()
        yield server
        server.kill()


def begin(server: MlflowServer, name: str) -> RunRef:
    return start_run(TrackingSpec(uri=server.uri, experiment="tests"), run_name=name, kind="finetune")


def history(run: RunRef, key: str) -> list[tuple[int, float]]:
    return [(p.step, p.value) for p in queries.metric_history(run.tracking_uri, run.run_id, key)]


def test_a_database_that_goes_away_loses_and_doubles_nothing(
    database: Postgres, server: MlflowServer, tmp_path: Path
) -> None:
    run = begin(server, "outage")
    with Recorder(run, tmp_path, buffer_s=0.05) as recorder:
        for step in range(60):
            recorder.metrics({"loss": 1.0 / (step + 1)}, step)
            if step == 30:
                assert recorder.flush(120.0)
                database.stop()
        recorder.text("written while the database was away", "notes/outage.txt")
        assert not recorder.flush(1.0)
        database.start()
        for step in range(60, 80):
            recorder.metrics({"loss": 1.0 / (step + 1)}, step)
        assert recorder.flush(120.0)
    assert history(run, "loss") == [(s, 1.0 / (s + 1)) for s in range(80)]
    assert not (tmp_path / run.run_id / "rejected.jsonl").exists()


def test_writes_may_be_repeated(server: MlflowServer, tmp_path: Path) -> None:
    run = begin(server, "repeated")
    with Recorder(run, tmp_path) as recorder:
        for step in range(5):
            recorder.metrics({"loss": 0.1 * step, "nan": float("nan"), "tiny": 5e-324, "inf": float("-inf")}, step)
        recorder.params({"a": 1})
        recorder.dataset("boolq", "cd" * 32, "training", rows=3)
        recorder.checkpoint("checkpoint-1", "/c/1", 1)
    # As after a kill between the server's answer and the acknowledgement.
    (tmp_path / run.run_id / "state.json").unlink()
    (result,) = replay(tmp_path)
    assert (result.num_delivered, result.num_rejected, result.num_pending) == (8, 0, 0)
    assert history(run, "loss") == [(s, 0.1 * s) for s in range(5)]
    for key in ("nan", "tiny", "inf"):
        assert [step for step, _ in history(run, key)] == list(range(5))
