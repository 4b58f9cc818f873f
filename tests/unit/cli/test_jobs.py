from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steerline.errors import SubmitError
from steerline.orchestration import runs, submission
from steerline.orchestration.ledger import Attempt, Ledger, State
from steerline.orchestration.submission import Submitted


def attempt(**changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "submission_id": "demo-0a1b-a1",
        "run_name": "demo-0a1b",
        "attempt": 1,
        "kind": "finetune",
        "root": Path("/repo"),
        "config": "jobs/configs/demo.yaml",
        "overrides": ("seed=3",),
        "storage_path": "/runs",
        "address": "http://127.0.0.1:1",
    }
    return Attempt(**values | changes)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Submissions succeed and are noted; their job prints a line and fails with 3."""
    noted: list[tuple[Any, ...]] = []

    def send(what: Any, sets: Any, *, address: Any, force: Any) -> Submitted:
        noted.append((what, sets, address, force))
        return Submitted(attempt(), "ray job submit -- python -m jobs.finetune x.yaml", ("hot day",))

    monkeypatch.setattr(submission, "submit", send)
    monkeypatch.setattr(submission, "resume", send)
    monkeypatch.setattr(runs, "logs", lambda reference, follow=False: iter(["training\n"]))
    monkeypatch.setattr(runs, "wait", lambda reference: attempt(state=State.FAILED, exit_code=3))
    return noted


def test_submit_prints_the_equal_ray_command_warnings_and_what_to_type_next(steerline, calls) -> None:
    ran = steerline("submit", "x.yaml", "--set", "a=1", "--set", "b=2", "--address", "http://h:1", "--force")
    assert ran.code == 0
    assert calls == [(Path("x.yaml"), ["a=1", "b=2"], "http://h:1", True)]
    assert "\n  ray job submit -- python -m jobs.finetune x.yaml\n" in ran.out
    assert "steerline logs -f demo-0a1b" in ran.out
    assert "hot day" in ran.err


@pytest.mark.parametrize(
    "arguments", [["submit", "x.yaml", "--wait"], ["resume", "demo", "--wait"], ["logs", "-f", "demo"]]
)
def test_a_command_that_waits_leaves_with_the_drivers_exit_code(steerline, calls, arguments: list[str]) -> None:
    ran = steerline(*arguments)
    assert ran.code == 3
    assert "training\n" in ran.out
    assert "failed" in ran.err


def test_resume_passes_on_what_may_change(steerline, calls) -> None:
    assert steerline("resume", "demo", "--set", "cluster.num_workers=1").code == 0
    assert calls == [("demo", ["cluster.num_workers=1"], None, False)]


def test_status_shows_all_runs_and_one_in_detail_without_any_cluster(steerline, tmp_path: Path) -> None:
    assert "no runs yet" in steerline("status").out
    ledger = Ledger(tmp_path / "home" / "ledger.db")
    ledger.add(attempt(state=State.RUNNING))
    ledger.add(attempt(submission_id="old-a1", run_name="old", state=State.FAILED, exit_code=8))
    table = steerline("status").out
    assert "unknown (cluster gone)" in next(line for line in table.splitlines() if "demo-0a1b-a1" in line)
    assert " 8 " in next(line for line in table.splitlines() if "old-a1" in line)
    one = steerline("status", "demo")
    assert "jobs/configs/demo.yaml --set seed=3" in one.out


def test_an_unknown_run_is_an_error_with_its_exit_code(steerline) -> None:
    for command in ("status", "logs", "stop", "resume"):
        ran = steerline(command, "nobody")
        assert ran.code == SubmitError.exit_code
        assert "nobody" in ran.err


def test_stop_says_how_the_run_ended(steerline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "stop", lambda reference: attempt(state=State.STOPPED))
    ran = steerline("stop", "demo")
    assert (ran.code, ran.out) == (0, "demo-0a1b-a1: stopped\n")
