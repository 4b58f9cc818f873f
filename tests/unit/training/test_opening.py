"""What MLflow is told of a run that does not start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steerline.errors import DataError
from steerline.training import opening
from steerline.training.opening import close_if_unstarted
from tests.law.runs import tiny_job


def test_the_reason_goes_to_the_run_that_its_submission_scheduled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[tuple[str, ...]] = []
    monkeypatch.setattr(opening, "close_unstarted", lambda *told, **more: closed.append((*told, more["reason"])))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m:5000")
    job, error = tiny_job(tmp_path), DataError("no rows")
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    close_if_unstarted(job.spec, error)
    assert closed == [], "a driver that was started by hand has no such run"
    config = {"runtime_env": {}, "metadata": {"job_submission_id": "tiny-a1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(config))
    close_if_unstarted(job.spec, error)
    assert closed == [("http://m:5000", job.name, "tiny-a1", str(error))]
