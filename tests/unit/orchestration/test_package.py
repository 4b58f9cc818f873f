from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from steerline.errors import SubmitError
from steerline.orchestration.package import Package, entrypoint, find_root, inside, job_variables
from steerline.orchestration.target import Target


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "repo" / "jobs").mkdir(parents=True)
    (tmp_path / "repo" / "jobs" / "finetune.py").touch()
    monkeypatch.chdir(tmp_path / "repo")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return tmp_path / "repo"


def package(root: Path) -> Package:
    arguments = entrypoint("finetune", "jobs/a b.yaml", ["name=it's", "data.train=[1, 2]"])
    return Package("run-a1", root, arguments, {"MLFLOW_TRACKING_URI": "http://m"}, {"run_name": "run"})


def target(address: str = "http://127.0.0.1:8265", **environment: str) -> Target:
    return Target(address, environment)


def test_the_plain_command_says_exactly_what_is_submitted(root: Path) -> None:
    words = shlex.split(
        package(root).plain_command(target(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH="/my keys/token"))
    )
    assert words[:2] == ["RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN_PATH=/my keys/token"]
    assert words[2:5] == ["ray", "job", "submit"]
    options = dict(zip(words[5:15:2], words[6:15:2], strict=True))
    assert options["--address"] == "http://127.0.0.1:8265"
    assert options["--submission-id"] == "run-a1"
    assert options["--working-dir"] == "."
    assert json.loads(options["--metadata-json"]) == package(root).metadata
    environment = {"working_dir": str(root), **json.loads(options["--runtime-env-json"])}
    assert environment == package(root).runtime_env
    assert words[15] == "--"
    assert words[16:] == list(package(root).arguments) == shlex.split(package(root).entrypoint)


def test_the_plain_command_holds_no_secret(root: Path) -> None:
    assert "s3cret" not in package(root).plain_command(target(RAY_AUTH_TOKEN="s3cret"))


def test_an_address_in_the_environment_is_overruled_in_the_plain_command(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:8265")
    assert "RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265 ray job" in package(root).plain_command(target())


def test_the_root_is_the_nearest_folder_with_the_job(root: Path) -> None:
    (root / "jobs" / "configs").mkdir()
    assert find_root(root / "jobs" / "configs", "finetune") == root
    with pytest.raises(SubmitError, match="no folder with jobs/sweep"):
        find_root(root, "sweep")


def test_a_config_outside_the_root_is_refused_with_the_copy_to_make(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SubmitError, match="would not travel") as caught:
        inside(root, tmp_path / "mine.yaml")
    assert str(caught.value.fix).startswith("cp ")


@pytest.mark.parametrize("folder", [".steerline", ".venv/x", "jobs/.pytest_cache"])
def test_a_config_in_a_folder_that_is_left_out_is_refused(root: Path, folder: str) -> None:
    with pytest.raises(SubmitError, match="is left out"):
        inside(root, root / folder / "mine.yaml")


def test_the_configs_mlflow_wins_over_the_callers(root: Path) -> None:
    caller = target(MLFLOW_TRACKING_URI="http://caller")
    assert job_variables(caller, None)["MLFLOW_TRACKING_URI"] == "http://caller"
    assert job_variables(caller, "http://config")["MLFLOW_TRACKING_URI"] == "http://config"
    assert "MLFLOW_TRACKING_URI" not in job_variables(target(), None)


def test_a_password_in_the_mlflow_address_is_refused() -> None:
    with pytest.raises(SubmitError, match="holds a password") as caught:
        job_variables(target(MLFLOW_TRACKING_URI="https://me:hunter2@mlflow"), None)
    assert "hunter2" not in str(caught.value)


def test_the_state_folder_is_passed_on_to_a_cluster_on_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERLINE_HOME", "/state")
    assert job_variables(target(), None)["STEERLINE_HOME"] == "/state"
    assert "STEERLINE_HOME" not in job_variables(target("http://ray.example:8265"), None)
