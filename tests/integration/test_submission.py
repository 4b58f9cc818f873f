"""Jobs through the real job server; the job itself is a script that does what its config's tags say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steerline.errors import PreflightError, SubmitError
from steerline.orchestration import runs
from steerline.orchestration.cluster import Cluster
from steerline.orchestration.ledger import Ledger, State
from steerline.orchestration.stack import Stack
from steerline.orchestration.submission import Submitted, resume, submit
from steerline.orchestration.target import locate
from steerline.progress import parse_progress
from steerline.tracking.queries import find_run

pytestmark = pytest.mark.integration

CONFIG = Path("jobs/scripted.yaml")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


def send(ledger: Ledger, name: str, *overrides: str) -> Submitted:
    return submit(CONFIG, [f"name={name}", *overrides], ledger=ledger)


def test_the_drivers_own_exit_code_comes_back(stack: Stack, repository: Path, ledger: Ledger) -> None:
    sent = send(ledger, "exits-with-3", "tracking.tags.exit_code='3'")
    assert sent.attempt.submission_id == f"{sent.attempt.run_name}-a1"
    output = "".join(runs.logs(sent.attempt.run_name, follow=True, ledger=ledger))
    assert f"tracking: {stack.tracking_uri}" in output
    assert f"storage: {sent.attempt.storage_path}" in output
    assert Path(sent.attempt.storage_path).is_relative_to(stack.folder)
    assert [p.step for line in output.splitlines() if (p := parse_progress(line))] == [1]
    ended = runs.wait(sent.attempt.run_name, ledger=ledger, timeout_s=300)
    assert (ended.state, ended.exit_code, runs.exit_code(ended)) == (State.FAILED, 3, 3)
    assert [(old.state, old.exit_code) for old in ledger.attempts()] == [(State.FAILED, 3)]

    # The script never begins the run that its submission scheduled.
    run = find_run(stack.tracking_uri, sent.attempt.run_name)
    assert (run.status, run.tags["steerline.ray_job_id"]) == ("FAILED", sent.attempt.submission_id)
    assert run.tags["steerline.reason"].startswith("failed before it started")

    # A failed run goes on under its name with the next attempt.
    again = resume("exits-with-3", ["tracking.tags.exit_code='0'"], ledger=ledger)
    assert (again.attempt.run_name, again.attempt.attempt) == (sent.attempt.run_name, 2)
    assert runs.exit_code(runs.wait("exits-with-3", ledger=ledger, timeout_s=300)) == 0


def test_the_command_line_leaves_with_the_jobs_exit_code(stack: Stack, repository: Path) -> None:
    sets = ["--set", "name=typed", "--set", "tracking.tags.exit_code='8'"]
    command = [sys.executable, "-m", "steerline.cli", "submit", str(CONFIG), *sets, "--wait"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 8, ran.stderr
    assert "ray job submit --address" in ran.stdout
    assert "steerline: step=1/2 loss=0.5" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_a_job_that_the_cluster_can_never_hold_is_not_sent(stack: Stack, repository: Path, ledger: Ledger) -> None:
    with pytest.raises(PreflightError, match="too-wide") as caught:
        send(ledger, "too-wide", "cluster.num_workers=4", "training.micro_batch_size=1")
    assert "3 CPUs" in str(caught.value)
    assert ledger.attempts() == []


def test_a_running_job_is_stopped_and_cannot_be_submitted_twice(
    stack: Stack, repository: Path, ledger: Ledger, tmp_path: Path
) -> None:
    sent = send(ledger, "hangs", "tracking.tags.then=hang")
    pieces = runs.logs(sent.attempt.submission_id, follow=True, ledger=ledger)
    assert next(piece for piece in pieces if "steerline: step=1/2" in piece)
    pieces.close()
    assert runs.status("hangs", ledger=ledger).state is State.RUNNING
    with pytest.raises(SubmitError, match="going already"):
        resume("hangs", ledger=ledger)
    # Nor by somebody whose ledger does not know it.
    with pytest.raises(SubmitError, match="going already"):
        send(Ledger(tmp_path / "other.db"), "hangs", "tracking.tags.then=hang")
    stopped = runs.stop("hangs", ledger=ledger)
    assert (stopped.state, runs.exit_code(stopped)) == (State.STOPPED, runs.STOPPED_EXIT_CODE)
    with pytest.raises(SubmitError, match="not going"):
        runs.stop("hangs", ledger=ledger)


def test_the_printed_command_does_the_same(
    stack: Stack, repository: Path, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a shell whose environment is active.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    sent = send(ledger, "printed")
    runs.wait("printed", ledger=ledger, timeout_s=300)
    line = sent.command.replace(sent.attempt.submission_id, f"{sent.attempt.run_name}-a2")
    pasted = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=300, check=False)
    assert pasted.returncode == 0, pasted.stdout + pasted.stderr
    jobs = Cluster(locate()).jobs()
    first, second = jobs[f"{sent.attempt.run_name}-a1"], jobs[f"{sent.attempt.run_name}-a2"]
    assert (first.entrypoint, first.metadata) == (second.entrypoint, second.metadata)
    # A job from outside the ledger is found by its name all the same.
    empty = Ledger(tmp_path / "empty.db")
    assert runs.status(second.submission_id, ledger=empty).state is State.SUCCEEDED
    assert second.submission_id in {attempt.submission_id for attempt in runs.overview(empty)}


def test_a_missing_token_is_explained(
    stack: Stack, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path / "nowhere"))
    # In a process of its own: one that has been connected to the cluster keeps its token.
    asked = "from steerline.orchestration import cluster, target; cluster.Cluster(target.locate())"
    told = subprocess.run([sys.executable, "-c", asked], check=False, capture_output=True, text=True)
    assert "SubmitError" in told.stderr
    assert "refused the token" in told.stderr
    assert "RAY_AUTH_TOKEN_PATH" in told.stderr
