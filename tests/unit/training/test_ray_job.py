"""What a driver learns of the Ray job that carries it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steerline.tracking.provenance import collect
from steerline.training.ray_job import RayJob

HERE = collect(Path(__file__).parent)
FOLDER = {"working_dir": "gcs://_ray_pkg_0123.zip"}


def ray_job(runtime_env: dict[str, Any], **metadata: str) -> RayJob:
    config = {"runtime_env": runtime_env, "metadata": {"job_submission_id": "raysubmit_1", **metadata}}
    found = RayJob.of({"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(config)})
    assert found is not None
    return found


def test_a_submitted_driver_knows_its_submission_id() -> None:
    assert ray_job({}).submission_id == "raysubmit_1"


def test_a_driver_started_by_hand_has_none() -> None:
    assert RayJob.of({}) is None
    assert RayJob.of({"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {}, "metadata": {}})}) is None


def test_the_commit_of_the_submission_is_the_jobs() -> None:
    job = ray_job(FOLDER, git_commit="ab" * 20, git_dirty="true", git_diff_sha256="cd" * 32, host="laptop")
    git = job.provenance(HERE).git
    assert git is not None
    assert (git.commit, git.is_dirty, git.diff_sha256) == ("ab" * 20, True, "cd" * 32)
    assert job.tags() == {"steerline.working_dir": FOLDER["working_dir"], "steerline.submitted.host": "laptop"}


def test_a_folder_that_travelled_without_its_commit_is_known_by_its_hash_and_the_commit_is_unknown() -> None:
    job = ray_job(FOLDER)
    assert job.provenance(HERE).git is None, "whatever repository the package was unpacked in is not this code's"
    assert job.tags()["steerline.working_dir"] == FOLDER["working_dir"]
    assert job.tags()["steerline.git"].startswith("unknown: ")


def test_where_no_folder_travelled_the_drivers_own_folder_counts() -> None:
    assert ray_job({}).provenance(HERE) == HERE
    assert ray_job({}).tags() == {}
