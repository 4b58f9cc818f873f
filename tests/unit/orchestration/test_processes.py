from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from steerline.orchestration import processes
from steerline.orchestration.processes import MARK, ProcessRecord

# Prints once it is up, then waits to be ended.
WAITS = "print('up', flush=True); import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
# Leaves a grandchild in a session of its own behind, with no parent to find it by.
LEAVES = (
    f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-S', '-c', {WAITS!r}], start_new_session=True);"
    "print(p.pid, flush=True)"
)


# Starts a child that does not carry the mark, and waits beside it.
SHEDS = (
    f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-S', '-c', {WAITS!r}], env={{}});"
    "print(p.pid, flush=True); time.sleep(600)"
)


def start(script: str, log: Path, mark: str) -> ProcessRecord:
    return processes.start([sys.executable, "-S", "-c", script], {**os.environ, MARK: mark}, log)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_started_process_writes_its_log_and_ends(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "server.log"
    record = start(WAITS, log, "one")
    until(lambda: log.read_text() == "up\n")
    assert processes.find(record) is not None
    assert os.getsid(record.pid) == record.pid
    assert processes.end([record], "one") == []
    assert processes.find(record) is None


@pytest.mark.parametrize("inherited", [signal.SIG_DFL, signal.SIG_IGN])
def test_an_interrupt_is_heard_also_where_the_shell_ignores_it(tmp_path: Path, inherited: signal.Handlers) -> None:
    log, before = tmp_path / "log", signal.signal(signal.SIGINT, inherited)
    try:
        record = start(f"try:\n    {WAITS}\nexcept KeyboardInterrupt:\n    print('in good order')", log, "polite")
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: log.read_text() == "up\n")
    processes.interrupt(record, 20.0)
    assert log.read_text() == "up\nin good order\n"
    assert processes.find(record) is None
    processes.interrupt(record, 20.0)


def test_a_process_that_ignores_the_request_is_killed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(processes, "_TERMINATE_WAIT_S", 0.1)
    monkeypatch.setattr(processes, "_HELPERS_WAIT_S", 0.1)
    log = tmp_path / "log"
    record = start(DEAF, log, "deaf")
    until(log.read_text)
    assert processes.end([record], "deaf") == []
    assert processes.find(record) is None


def test_a_helper_that_left_the_tree_is_found_by_its_mark(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(processes, "_HELPERS_WAIT_S", 0.1)
    log = tmp_path / "log"
    record = start(LEAVES, log, "left")
    until(lambda: log.read_text().endswith("up\n") and processes.find(record) is None)
    helper = psutil.Process(int(log.read_text().split()[0]))
    stranger = start(WAITS, tmp_path / "stranger.log", "stranger")
    assert processes.end([record], "left") == []
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE
    assert processes.find(stranger) is not None
    processes.end([stranger], "stranger")


def test_what_an_ended_process_left_in_its_session_is_ended_and_nothing_else(tmp_path: Path) -> None:
    log, other = tmp_path / "log", tmp_path / "other.log"
    record, beside = start(SHEDS.replace(", env={}", ""), log, "ours"), start(WAITS, other, "ours")
    until(lambda: log.read_text().endswith("up\n") and other.read_text())
    worker = psutil.Process(int(log.read_text().split()[0]))
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: processes.find(record) is None)
    # A session's number may be another's by now.
    processes.end_orphans(record, "another's")
    assert worker.is_running()
    assert worker.status() != psutil.STATUS_ZOMBIE
    processes.end_orphans(record, "ours")
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert processes.find(beside) is not None
    processes.end([beside], "ours")


def test_a_child_without_the_mark_is_found_by_the_tree(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(processes, "_HELPERS_WAIT_S", 0.1)
    log = tmp_path / "log"
    record = start(SHEDS, log, "shed")
    until(lambda: log.read_text().endswith("up\n"))
    child = psutil.Process(int(log.read_text().split()[0]))
    assert processes.end([record], "shed") == []
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_recycled_pid_is_left_alone(tmp_path: Path) -> None:
    record = start(WAITS, tmp_path / "log", "now")
    boot, ticks = record.started.split()
    for started in (f"{boot} {int(ticks) - 6000}", f"another-boot {ticks}"):
        earlier = replace(record, started=started)
        assert processes.find(earlier) is None
        assert processes.end([earlier], "then") == []
        processes.end_orphans(earlier, "now")
        assert processes.find(record) is not None
    processes.end([record], "now")
