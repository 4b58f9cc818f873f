"""What the driver learns from its surroundings."""

from __future__ import annotations

import json

from steerline.training.driver import submission_id


def test_a_submitted_driver_knows_its_submission_id() -> None:
    config = {"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1", "run_name": "x"}}
    assert submission_id({"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(config)}) == "raysubmit_1"


def test_a_driver_started_by_hand_has_none() -> None:
    assert submission_id({}) is None
