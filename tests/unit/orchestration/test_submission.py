"""Submitting against a cluster that only remembers what it is told."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from steerline.config.load import Loaded
from steerline.config.tracking import TrackingSpec
from steerline.errors import PreflightError, SubmitError, TrackingError
from steerline.orchestration import runs, submission
from steerline.orchestration.cluster import Job
from steerline.orchestration.ledger import Ledger, State
from steerline.orchestration.submission import resume, submit
from steerline.orchestration.target import Target

LOCAL = "http://127.0.0.1:8265"
REMOTE = "http://ray.example:8265"
CONFIG = """
name: demo
model: {source: {kind: local, path: nowhere}}
data: {train: [{source: {kind: file, path: nowhere.jsonl}, format: {kind: text}}]}
training: {num_steps: 1}
"""


class FakeCluster:
    """Every cluster there is: what each address remembers, and whether it answers."""

    memory: dict[str, dict[str, Job]]
    silent: set[str]
    sent: list[dict[str, Any]]
    refuses = False

    def __init__(self, target: Target) -> None:
        self.target = target

    def jobs(self) -> dict[str, Job]:
        return dict(self.memory.setdefault(self.target.address, {}))

    def submit(self, entrypoint: str, *, submission_id: str, runtime_env: Any, metadata: Mapping[str, str]) -> None:
        if self.refuses:
            raise SubmitError("the cluster refused")
        self.sent.append({"entrypoint": entrypoint, "runtime_env": runtime_env})
        job = Job(submission_id, State.RUNNING, None, None, entrypoint, metadata)
        self.memory.setdefault(self.target.address, {})[submission_id] = job

    @classmethod
    def end(cls, submission_id: str, state: State, code: int | None = None, address: str = LOCAL) -> None:
        old = cls.memory[address][submission_id]
        cls.memory[address][submission_id] = Job(submission_id, state, code, None, old.entrypoint, old.metadata)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> type[FakeCluster]:
    class Fresh(FakeCluster):
        pass

    Fresh.memory, Fresh.silent, Fresh.sent = {}, set(), []
    monkeypatch.setattr(submission, "Cluster", Fresh)
    monkeypatch.setattr(runs, "Cluster", Fresh)
    monkeypatch.setattr(runs, "answers", lambda address: address not in Fresh.silent)
    return Fresh


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "finetune.py").touch()
    (tmp_path / "jobs" / "demo.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path / "home"))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return Path("jobs/demo.yaml")


class FakeTracking:
    """Remembers which runs were scheduled and which were closed before they started."""

    def __init__(self) -> None:
        self.scheduled: list[dict[str, Any]] = []
        self.closed: list[tuple[str, str, str, str]] = []
        self.is_away = False

    def schedule(self, spec: TrackingSpec, **told: Any) -> None:
        if self.is_away:
            raise TrackingError("The tracking server cannot be reached")
        self.scheduled.append({"uri": spec.uri, **told})

    def close(self, uri: str, run_name: str, submission_id: str, *, status: str, reason: str) -> bool:
        self.closed.append((uri, submission_id, status, reason))
        return True


@pytest.fixture
def tracking(monkeypatch: pytest.MonkeyPatch, config: Path) -> FakeTracking:
    fake = FakeTracking()
    monkeypatch.setattr(submission, "schedule_run", fake.schedule)
    monkeypatch.setattr(submission, "close_unstarted", fake.close)
    monkeypatch.setattr(runs, "close_unstarted", fake.close)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m:5000")
    return fake


def unchecked(loaded: Loaded, target: Target) -> Sequence[str]:
    return []


def test_a_submission_is_named_after_its_run_and_written_down(cluster: type[FakeCluster], config: Path) -> None:
    sent = submit(config, ["seed=3"], check=unchecked, address=LOCAL)
    assert sent.attempt.run_name.startswith("demo-")
    assert sent.attempt.submission_id == f"{sent.attempt.run_name}-a1"
    assert cluster.sent[0]["entrypoint"] == "python -m jobs.finetune jobs/demo.yaml --set seed=3"
    job = cluster.memory[LOCAL][sent.attempt.submission_id]
    assert {"run_name": sent.attempt.run_name, "kind": "finetune", "attempt": "1"}.items() <= job.metadata.items()
    assert [old.submission_id for old in Ledger().attempts()] == [sent.attempt.submission_id]


def test_nothing_is_sent_or_written_when_the_check_fails(cluster: type[FakeCluster], config: Path) -> None:
    def refuse(loaded: Loaded, target: Target) -> Sequence[str]:
        raise PreflightError("too big")

    with pytest.raises(PreflightError):
        submit(config, check=refuse, address=LOCAL)
    assert cluster.sent == []
    assert Ledger().attempts() == []


def test_a_refused_submission_leaves_no_trace(cluster: type[FakeCluster], config: Path) -> None:
    cluster.refuses = True
    with pytest.raises(SubmitError, match="refused"):
        submit(config, check=unchecked, address=LOCAL)
    assert Ledger().attempts() == []


def test_a_going_run_is_not_submitted_twice(cluster: type[FakeCluster], config: Path, tmp_path: Path) -> None:
    submit(config, check=unchecked, address=LOCAL)
    with pytest.raises(SubmitError, match="going already"):
        submit(config, check=unchecked, address=LOCAL)
    with pytest.raises(SubmitError, match="going already"):
        submit(config, check=unchecked, address=LOCAL, ledger=Ledger(tmp_path / "elsewhere.db"))


def test_the_next_attempt_has_the_next_number_whatever_the_ledger_knows(
    cluster: type[FakeCluster], config: Path, tmp_path: Path
) -> None:
    first = submit(config, check=unchecked, address=LOCAL).attempt
    cluster.end(first.submission_id, State.FAILED, 8)
    second = submit(config, check=unchecked, address=LOCAL, ledger=Ledger(tmp_path / "elsewhere.db")).attempt
    assert second.submission_id == f"{first.run_name}-a2"
    cluster.end(second.submission_id, State.STOPPED)
    cluster.memory.clear()  # the head was restarted: only the ledger remembers
    assert submit(config, check=unchecked, address=LOCAL).attempt.attempt == 2


def test_resume_takes_the_same_config_and_overrides(cluster: type[FakeCluster], config: Path) -> None:
    first = submit(config, ["seed=3"], check=unchecked, address=LOCAL).attempt
    cluster.end(first.submission_id, State.FAILED, 137)
    again = resume("demo", ["cluster.num_workers=2"], check=unchecked, address=LOCAL).attempt
    assert (again.run_name, again.attempt) == (first.run_name, 2)
    assert cluster.sent[1]["entrypoint"].endswith("--set seed=3 --set cluster.num_workers=2")


def test_resume_refuses_what_would_be_another_run(cluster: type[FakeCluster], config: Path) -> None:
    first = submit(config, check=unchecked, address=LOCAL).attempt
    cluster.end(first.submission_id, State.SUCCEEDED, 0)
    with pytest.raises(SubmitError, match="another run"):
        resume("demo", ["seed=4"], check=unchecked, address=LOCAL)
    config.write_text(CONFIG.replace("num_steps: 1", "num_steps: 2"))
    with pytest.raises(SubmitError, match="another run"):
        resume("demo", check=unchecked, address=LOCAL)


def test_resume_of_an_unknown_run_says_what_to_do(cluster: type[FakeCluster], config: Path) -> None:
    with pytest.raises(SubmitError, match="submitted from here") as caught:
        resume("nobody", check=unchecked, address=LOCAL)
    assert "steerline submit" in str(caught.value)


def test_a_run_whose_local_cluster_is_gone_goes_on_elsewhere(cluster: type[FakeCluster], config: Path) -> None:
    first = submit(config, check=unchecked, address="http://127.0.0.1:1").attempt
    cluster.silent.add("http://127.0.0.1:1")
    assert runs.status("demo").state is State.UNKNOWN
    resume("demo", check=unchecked, address=LOCAL)
    assert {old.submission_id: old.state for old in Ledger().attempts()} == {
        first.submission_id: State.LOST,
        f"{first.run_name}-a2": State.PENDING,
    }


def test_a_remote_cluster_that_is_silent_may_still_run_the_job(cluster: type[FakeCluster], config: Path) -> None:
    submit(config, check=unchecked, address=REMOTE)
    cluster.silent.add(REMOTE)
    with pytest.raises(SubmitError, match="may still be going") as caught:
        resume("demo", check=unchecked, address=LOCAL)
    assert "--force" in str(caught.value)
    assert resume("demo", check=unchecked, address=LOCAL, force=True).attempt.attempt == 2


def test_status_follows_the_cluster_and_remembers_the_end(cluster: type[FakeCluster], config: Path) -> None:
    sent = submit(config, check=unchecked, address=LOCAL).attempt
    assert runs.status("demo").state is State.RUNNING
    cluster.end(sent.submission_id, State.FAILED, 7)
    assert runs.exit_code(runs.wait("demo")) == 7
    cluster.silent.add(LOCAL)
    assert runs.status("demo").state is State.FAILED


def test_a_job_that_a_restarted_head_does_not_know_is_lost(cluster: type[FakeCluster], config: Path) -> None:
    submit(config, check=unchecked, address=LOCAL)
    runs.status("demo")
    cluster.memory.clear()
    assert runs.status("demo").state is State.LOST
    assert runs.exit_code(runs.status("demo")) == SubmitError.exit_code


def test_the_overview_shows_jobs_that_others_submitted(
    cluster: type[FakeCluster], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", LOCAL)
    mine = submit(config, check=unchecked).attempt
    cluster.memory[LOCAL]["raysubmit_1"] = Job("raysubmit_1", State.SUCCEEDED, 0, None, "python x.py", {})
    assert [attempt.submission_id for attempt in runs.overview()] == [mine.submission_id, "raysubmit_1"]
    assert runs.status("raysubmit_1").config == "python x.py"


def test_a_cluster_that_somebody_names_and_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(SubmitError, match="no cluster answers"):
        runs.overview(Ledger(tmp_path / "ledger.db"), "http://127.0.0.1:1")


def test_logs_kept_by_down_are_shown_when_the_cluster_is_gone(cluster: type[FakeCluster], config: Path) -> None:
    sent = submit(config, check=unchecked, address=LOCAL).attempt
    cluster.silent.add(LOCAL)
    with pytest.raises(SubmitError, match="log with it"):
        list(runs.logs("demo"))
    kept = Path("home/logs/jobs") / f"{sent.submission_id}.log"
    kept.parent.mkdir(parents=True)
    kept.write_text("trained\n")
    assert list(runs.logs("demo")) == ["trained\n"]


def test_a_stopped_run_has_an_exit_code_of_its_own(cluster: type[FakeCluster], config: Path) -> None:
    sent = submit(config, check=unchecked, address=LOCAL).attempt
    cluster.end(sent.submission_id, State.STOPPED)
    assert runs.exit_code(runs.status("demo")) == runs.STOPPED_EXIT_CODE


def test_a_run_is_scheduled_where_it_will_be_recorded(
    cluster: type[FakeCluster], config: Path, tracking: FakeTracking
) -> None:
    sent = submit(config, check=unchecked, address=LOCAL).attempt
    (told,) = tracking.scheduled
    assert told["uri"] == "http://m:5000"
    assert (told["run_name"], told["submission_id"]) == (sent.run_name, sent.submission_id)
    assert told["config"]["training"]["num_steps"] == 1
    assert tracking.closed == []


def test_a_submission_that_the_cluster_refuses_is_closed_with_the_reason(
    cluster: type[FakeCluster], config: Path, tracking: FakeTracking
) -> None:
    cluster.refuses = True
    with pytest.raises(SubmitError):
        submit(config, check=unchecked, address=LOCAL)
    ((_, name, status, reason),) = tracking.closed
    assert name.endswith("-a1")
    assert status == "FAILED"
    assert "the cluster refused" in reason


def test_a_tracking_server_that_is_away_from_here_holds_no_submission_up(
    cluster: type[FakeCluster], config: Path, tracking: FakeTracking
) -> None:
    tracking.is_away = True
    sent = submit(config, check=unchecked, address=LOCAL)
    assert "before it starts" in sent.warnings[-1]
    assert len(cluster.sent) == 1


@pytest.mark.parametrize(
    ("state", "status"), [(State.FAILED, "FAILED"), (State.STOPPED, "KILLED"), (State.SUCCEEDED, "FINISHED")]
)
def test_a_job_that_ended_is_closed_once_in_case_it_never_started(
    cluster: type[FakeCluster], config: Path, tracking: FakeTracking, state: State, status: str
) -> None:
    sent = submit(config, check=unchecked, address=LOCAL).attempt
    cluster.end(sent.submission_id, state)
    runs.status("demo")
    runs.status("demo")
    assert [closed[2] for closed in tracking.closed] == [status]


def test_the_job_is_told_what_code_it_is(
    cluster: type[FakeCluster], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *arguments], check=True)
    sent = submit(config, check=unchecked, address=LOCAL)
    metadata = cluster.memory[LOCAL][sent.attempt.submission_id].metadata
    assert len(metadata["git_commit"]) == 40
    assert metadata["git_dirty"] == "true", "the ledger lies in the tree"
    assert metadata["git_commit"] in sent.command, "the plain command hands the same on"
