"""The spool on disk: an append-only journal of records, and how far the server has taken them.

One folder for each run:

    run.json             the run the records belong to
    records-<seq>.jsonl  the records, one JSON line each; a segment is named by its first sequence number
    state.json           the last sequence number the server has taken, and the last step of each metric up to there
    files/               copies of the artefacts that are still to be uploaded
    rejected.jsonl       what the server refused for good, with its reason
    lock                 held by the one process that owns the folder

A line reaches the operating system before the caller goes on, so a killed process loses nothing; it reaches the disk
with the next batch (about a second), so a killed machine loses at most that. A last line without its end is the trace
of a kill while writing, and is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from steerline.errors import TrackingError
from steerline.tracking.references import RunRef

logger = logging.getLogger(__name__)

_BACKLOG = 10_000


@dataclass(frozen=True)
class Record:
    """One thing to tell the server. `body` is plain JSON; its fields depend on the kind (see recorder.py)."""

    seq: int
    time_ms: int
    kind: str
    body: Mapping[str, object]

    def line(self) -> bytes:
        """The record as one line of the journal."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"


class Journal:
    """The records of one run, in order. Writing and reading may happen in different threads of one process.

    Args:
        folder: the run's spool folder; made if missing.
        run: the run; none takes the one the folder was made for.
        segment_bytes: size at which a new segment is begun, so that taken ones can be deleted.
        lock_wait_s: how long to wait for another owner to end.

    Raises:
        TrackingError: another process owns the folder, or it belongs to another run.
    """

    def __init__(
        self, folder: Path, run: RunRef | None = None, *, segment_bytes: int = 8 << 20, lock_wait_s: float = 20.0
    ) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._mutex = threading.Lock()
        self._backlog: deque[bytes] = deque(maxlen=_BACKLOG)
        self._dirty = False
        try:
            (folder / "files").mkdir(parents=True, exist_ok=True)
            self._lock_fd = _lock(folder / "lock", lock_wait_s)
        except OSError as error:
            raise TrackingError(
                "The spool folder cannot be used", where=str(folder), got=str(error), expected="a folder to write in"
            ) from error
        self._fd = -1
        try:
            self.run = _bind(folder, run)
            state = _read_json(folder / "state.json")
            self.acknowledged = int(state.get("acknowledged", 0))
            self._taken_steps: dict[str, int] = dict(state.get("last_steps", {}))
            self._open_segments()
        except BaseException:
            self.close()
            raise

    def _open_segments(self) -> None:
        self._segments = sorted(self.folder.glob("records-*.jsonl"))
        self.last_seq = self.acknowledged
        self.last_steps = dict(self._taken_steps)
        """The last step of each metric that this folder's earlier owners recorded."""
        if self._segments:
            _cut_torn_tail(self._segments[-1])
        for path in self._segments:
            for line in path.read_bytes().splitlines():
                record = _decode(line, path)
                if record is not None:
                    self.last_seq = max(self.last_seq, record.seq)
                    raise_steps(self.last_steps, record)
        if not self._segments:
            self._segments.append(self.folder / f"records-{self.last_seq + 1:012d}.jsonl")
        self._use(self._segments[-1])
        self._read_segment = self._segments[0]
        self._read_offset = 0
        self._read_seq = self.acknowledged

    def _use(self, path: Path) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
        self._fd = fd
        self._size = os.fstat(fd).st_size
        _sync_folder(self.folder)

    # Writing

    def append(self, kind: str, body: Mapping[str, object], time_ms: int) -> int:
        """Write a record and return its sequence number. A full disk is waited out in memory, with a warning."""
        with self._mutex:
            self.last_seq += 1
            if len(self._backlog) == _BACKLOG:
                logger.warning("tracking: the disk of %s is still full; the oldest waiting record is lost", self.folder)
            self._backlog.append(Record(self.last_seq, time_ms, kind, body).line())
            self._write_backlog()
            return self.last_seq

    def _write_backlog(self) -> None:
        while self._backlog:
            line = self._backlog[0]
            try:
                self._write(line)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._size)
                if len(self._backlog) == 1:
                    logger.warning("tracking: cannot write to %s (%s); records wait in memory", self.folder, error)
                return
            self._backlog.popleft()

    def _write(self, line: bytes) -> None:
        if self._size >= self._segment_bytes:
            # Named by the first record that goes into it, which may be older than the last one numbered.
            first = self.last_seq - len(self._backlog) + 1
            path = self.folder / f"records-{first:012d}.jsonl"
            self._use(path)
            self._segments.append(path)
        written = os.write(self._fd, line)
        if written < len(line):
            raise OSError("the disk took only part of the line")
        self._size += written
        self._dirty = True

    def sync(self) -> None:
        """Bring what was written to the disk itself, and try again what a full disk had refused."""
        with self._mutex:
            self._write_backlog()
            if not self._dirty:
                return
            self._dirty = False
            # A second handle: a slow disk must not hold up `append`, which may also close the first one meanwhile.
            fd = os.dup(self._fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def keep_file(self, source: Path | bytes, name: str) -> str:
        """Put a copy under `files/` and return its name there. The copy is deleted once the server has it."""
        stored = f"{uuid.uuid4().hex}/{name}"
        target = self.folder / "files" / stored
        target.parent.mkdir(parents=True)
        if isinstance(source, bytes):
            target.write_bytes(source)
        else:
            shutil.copyfile(source, target)
        return stored

    def file(self, stored: str) -> Path:
        """Where a kept file lies."""
        return self.folder / "files" / stored

    # Reading

    def read(self, limit: int) -> list[Record]:
        """The next records that the server has not taken, in order; each is returned once."""
        with self._mutex:
            segments, size = tuple(self._segments), self._size
        found: list[Record] = []
        for path in segments[segments.index(self._read_segment) :]:
            active = path == segments[-1]
            if path != self._read_segment:
                self._read_segment, self._read_offset = path, 0
            end = size if active else path.stat().st_size
            with path.open("rb") as file:
                file.seek(self._read_offset)
                while self._read_offset < end and len(found) < limit:
                    line = file.readline()
                    self._read_offset += len(line)
                    record = _decode(line, path)
                    if record is not None and record.seq > self._read_seq:
                        found.append(record)
                        self._read_seq = record.seq
            if len(found) >= limit:
                break
        return found

    @property
    def pending(self) -> int:
        """How many records the server has not taken."""
        return self.last_seq - self.acknowledged

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Note that the server has taken these (or refused them for good), and everything before them."""
        for record in records:
            raise_steps(self._taken_steps, record)
        self.acknowledged = records[-1].seq
        state = {"acknowledged": self.acknowledged, "last_steps": self._taken_steps}
        _write_json(self.folder / "state.json", state)
        # Only now: after a crash before this line the files are needed once more.
        for record in records:
            stored = record.body.get("file")
            if isinstance(stored, str):
                shutil.rmtree(self.file(stored).parent, ignore_errors=True)
        with self._mutex:
            while len(self._segments) > 1 and _first_seq(self._segments[1]) <= self.acknowledged + 1:
                if self._segments[0] == self._read_segment:
                    self._read_segment, self._read_offset = self._segments[1], 0
                self._segments.pop(0).unlink()

    def reject(self, record: Record, reason: str) -> None:
        """Set a record aside that the server will never take, with its artefact."""
        body = dict(record.body)
        stored = body.get("file")
        if isinstance(stored, str) and self.file(stored).is_file():
            kept = self.folder / "rejected" / stored
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.file(stored), kept)
        line = json.dumps({"reason": reason, **asdict(replace(record, body=body))})
        with (self.folder / "rejected.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Give the folder up. What is in it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def raise_steps(steps: dict[str, int], record: Record) -> None:
    """Raise the last step of each metric that the record holds."""
    if record.kind != "metrics":
        return
    step, values = record.body["step"], record.body["values"]
    if isinstance(step, int) and isinstance(values, Mapping):
        for key in values:
            steps[key] = max(step, steps.get(key, step))


def _decode(line: bytes, path: Path) -> Record | None:
    try:
        fields = json.loads(line)
        return Record(int(fields["seq"]), int(fields["time_ms"]), str(fields["kind"]), dict(fields["body"]))
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("tracking: a damaged record in %s was left out (%s): %r", path, error, line[:200])
        return None


def _cut_torn_tail(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        logger.info("tracking: the last record in %s was never finished; cut off", path)
        with path.open("r+b") as file:
            file.truncate(whole)


def _first_seq(path: Path) -> int:
    return int(path.stem.removeprefix("records-"))


def _lock(path: Path, wait_s: float) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            owner = os.pread(fd, 64, 0).decode(errors="replace").strip()
            os.close(fd)
            raise TrackingError(
                "Another process already records to this run",
                where=str(path.parent),
                got=f"process {owner or 'unknown'}",
                expected="one owner of a run",
                fix="wait for it to end, or stop it",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        return fd


def _bind(folder: Path, run: RunRef | None) -> RunRef:
    path = folder / "run.json"
    known = _read_json(path)
    if not known:
        if run is None:
            raise TrackingError("This folder holds no spool", where=str(folder), expected="a run.json in it")
        _write_json(path, asdict(run))
        return run
    owner = RunRef(**known)
    if run is not None and run.run_id != owner.run_id:
        raise TrackingError(
            "The spool folder belongs to another run", where=str(folder), got=owner.run_id, expected=run.run_id
        )
    if run is not None and run != owner:
        # The same run at a new address: the server was moved.
        _write_json(path, asdict(run))
        return run
    return owner


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        # Nothing is lost: what was taken already is sent once more, which the server does not double.
        logger.warning("tracking: %s is damaged (%s) and begun anew", path, error)
        return {}
    return content


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    """Replace the file in one step, so that a crash leaves the old content or the new."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
