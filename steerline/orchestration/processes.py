"""Server processes that outlive the command which started them, and ending exactly those.

A process is remembered by pid and start, since the system gives pids out again. Everything it starts inherits a mark in
its environment, so that helpers which left the process tree are found too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "STEERLINE_STACK_ID"
_TERMINATE_WAIT_S = 20.0
_HELPERS_WAIT_S = 3.0
_KILL_WAIT_S = 10.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# Of the fields of `/proc/PID/stat` that follow the program's name, whose own may hold spaces (man proc_pid_stat, 22).
_START = 19


@dataclass(frozen=True)
class ProcessRecord:
    """A process, told apart from a later one with the same pid."""

    pid: int
    started: str
    """The boot, and the clock ticks from there. Unlike a time of day it stays when somebody sets the clock."""


def start(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> ProcessRecord:
    """Start a server in a session of its own, its output appended to `log`. It lives on when this process ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        pid = os.posix_spawn(
            arguments[0],
            list(arguments),
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            # Shells have what runs in their background ignore it, and `interrupt` needs it.
            setsigdef=[signal.SIGINT],
            setsid=True,
        )
    finally:
        os.close(output)
    return ProcessRecord(pid, _started(pid))


def find(record: ProcessRecord) -> psutil.Process | None:
    """The recorded process if it still runs."""
    try:
        process = psutil.Process(record.pid)
        if not _is_recorded(process, record) or not _runs(process):
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def listens(records: Iterable[ProcessRecord], port: int) -> bool:
    """Whether one of the processes, or a descendant of theirs, listens on a TCP port."""
    roots = [process for record in records if (process := find(record)) is not None]
    return any(port in _ports(process) for process in [*roots, *_descendants(roots)])


def _ports(process: psutil.Process) -> set[int]:
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:
        return set()  # gone meanwhile
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


def interrupt(record: ProcessRecord, wait_s: float) -> None:
    """Ask a process to end as somebody at its terminal would, and wait for that; `end` ends one that does not."""
    process = find(record)
    if process is not None:
        _signal(process, signal.SIGINT)
        psutil.wait_procs([process], timeout=wait_s)


def end(records: Iterable[ProcessRecord], mark: str) -> list[int]:
    """End the recorded processes, all their descendants and every process that carries the mark.

    Asks first and kills what has not gone after a while.

    Returns:
        pids that could not be ended; empty when all are gone.
    """
    roots = [process for record in records if (process := find(record)) is not None]
    # Listed before their parents end, when those that dropped the mark can still be told.
    family = {process.pid: process for process in [*_descendants(roots), *roots]}
    # The servers end their own helpers in the right order; only what is left over is ended from here.
    for root in roots:
        _signal(root, signal.SIGTERM)
    psutil.wait_procs(roots, timeout=_TERMINATE_WAIT_S)
    family |= {process.pid: process for process in _marked(mark)}
    _kill_what_stays(list(family.values()))
    return sorted({process.pid for process in [*family.values(), *_marked(mark)] if _runs(process)})


def end_orphans(record: ProcessRecord, mark: str) -> None:
    """End what a recorded process that has ended left behind: those of its session that carry the mark.

    A worker of a killed server may go on and keep its port.
    """
    if _is_given_again(record):
        return
    orphans = [process for process in _marked(mark) if _session(process) == record.pid]
    for process in orphans:
        _signal(process, signal.SIGTERM)
    _kill_what_stays(orphans)


def _kill_what_stays(asked: Sequence[psutil.Process]) -> None:
    _, left = psutil.wait_procs(asked, timeout=_HELPERS_WAIT_S)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=_KILL_WAIT_S)


def _started(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    return f"{_BOOT.read_text().strip()} {line.rpartition(')')[2].split()[_START]}"


def _is_recorded(process: psutil.Process, record: ProcessRecord) -> bool:
    return _started(process.pid) == record.started


def _is_given_again(record: ProcessRecord) -> bool:
    """Whether a later process has the pid. The system waits with that until nobody is left of the session."""
    try:
        return _started(record.pid) != record.started
    except psutil.NoSuchProcess:
        return False


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def _marked(mark: str) -> list[psutil.Process]:
    marked = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                marked.append(process)
        except psutil.Error:
            continue  # gone meanwhile, or another person's
    return marked


def _descendants(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for root in roots:
        try:
            found += root.children(recursive=True)
        except psutil.NoSuchProcess:
            continue
    return found


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        # psutil checks the creation time first, so a recycled pid is safe.
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
