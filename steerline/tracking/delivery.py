"""Take records from the journal to the server: in order, in batches, again and again while the server is away."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steerline.tracking.backend import (
    Backend,
    DatasetInput,
    MetricPoint,
    ModelOutput,
    Refused,
    Trace,
    TraceSpan,
    Unavailable,
)
from steerline.tracking.journal import Journal, Record

logger = logging.getLogger(__name__)

MAX_POINTS = 1000
MAX_FIELDS = 100
_READ = 500
# A record that fails for this long and this often, while others of its kind pass, is itself the cause.
_SUSPECT_FAILURES = 6
_SUSPECT_S = 60.0


@dataclass(frozen=True)
class Backoff:
    """Waits between attempts while the server is away: doubling, with a ceiling."""

    first_s: float = 0.5
    longest_s: float = 30.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row."""
        return float(min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30)))


class Deliverer:
    """Delivers what the journal holds. Not thread-safe: one thread calls it.

    At least once: after a crash between the server's answer and the acknowledgement a record is sent again, and every
    write of the backend may be repeated. A metric point keeps the time at which it was recorded, so its repetition is
    the same point. A point whose step the server already has for its metric is left out: an earlier attempt of the run
    recorded that step, perhaps from another machine.
    """

    def __init__(
        self,
        journal: Journal,
        backend: Backend,
        *,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._backend = backend
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._waiting: list[Record] = []
        self._known_steps: dict[str, int] | None = None
        self._failures = 0
        self._away_since = 0.0
        self.num_rejected = 0
        self.deadline: float | None = None
        """Time of the clock after which no further batch is begun."""

    def deliver(self) -> float | None:
        """Send what there is. Returns none when all is delivered, else the seconds to wait before trying again."""
        try:
            if self._known_steps is None:
                self._known_steps = self._backend.last_steps()
            while batch := self._next_batch():
                if self.deadline is not None and self._clock() > self.deadline:
                    return 0.0
                self._journal.sync()
                self._send(batch)
                self._journal.acknowledge(batch)
                del self._waiting[: len(batch)]
                self._note_back()
        except Unavailable as error:
            return self._note_away(str(error))
        except OSError as error:
            # Most likely a full disk under the spool. What was sent but not noted is sent again, to no effect.
            return self._note_away(f"the spool cannot be kept: {error}")
        except Refused as error:
            logger.warning("tracking: the server does not know run %s: %s", self._journal.run.run_id, error)
            self._known_steps = {}
            return 0.0
        self._note_back()
        return None

    def _next_batch(self) -> list[Record]:
        if not self._waiting:
            self._waiting = self._journal.read(_READ)
        if self._waiting and self._waiting[0].kind != "metrics":
            return self._waiting[:1]
        return list(itertools.takewhile(lambda record: record.kind == "metrics", self._waiting))

    def _send(self, batch: Sequence[Record]) -> None:
        if self._is_suspect() and self._answers(batch[0].kind):
            self._send_singly(batch)
            return
        try:
            self._send_together(batch)
        except Refused as error:
            if self._refuses_all(batch[0].kind):
                for record in batch:
                    self._reject(record, str(error))
            else:
                # One bad record fails its whole batch; repetition does no harm, so find it by sending each alone.
                self._send_singly(batch)

    def _send_singly(self, batch: Sequence[Record]) -> None:
        for record in batch:
            for part in _parts(record):
                try:
                    self._send_together([part])
                except Refused as error:
                    self._reject(part, str(error))
                except Unavailable as error:
                    if not (self._is_suspect() and self._answers(part.kind)):
                        raise
                    self._reject(part, f"failed {self._failures} times while the server took others: {error}")

    def _send_together(self, batch: Sequence[Record]) -> None:
        if batch[0].kind != "metrics":
            for record in batch:
                self._send_one(record)
            return
        points = [p for record in batch for p in _points(record) if self._is_new(p)]
        for start in range(0, len(points), MAX_POINTS):
            self._backend.log_metrics(points[start : start + MAX_POINTS])

    def _send_one(self, record: Record) -> None:
        body = record.body
        match record.kind:
            case "params":
                for chunk in _chunks(_mapping(record, "values")):
                    self._backend.log_params(chunk)
            case "tags":
                for chunk in _chunks(_mapping(record, "values")):
                    self._backend.set_tags(chunk)
            case "artifact":
                self._backend.upload(self._journal.file(str(body["file"])), str(body["folder"]))
            case "dataset":
                self._backend.log_dataset(DatasetInput(**_mapping(record, "dataset")))
            case "model":
                fields = dict(_mapping(record, "model"))
                files = tuple((Path(path), folder) for path, folder in fields.pop("files"))
                self._backend.log_model(ModelOutput(**fields, files=files))
            case "trace":
                fields = json.loads(self._journal.file(str(body["file"])).read_bytes())
                spans = tuple(TraceSpan(**span) for span in fields.pop("spans"))
                self._backend.log_trace(Trace(**fields, spans=spans))
            case "status":
                self._backend.set_status(str(body["status"]))
            case other:
                raise Refused(f"a record of unknown kind {other!r}, written by another version of steerline")

    def _is_new(self, point: MetricPoint) -> bool:
        known = (self._known_steps or {}).get(point.key)
        return known is None or point.step > known

    def _is_suspect(self) -> bool:
        return self._failures >= _SUSPECT_FAILURES and self._clock() - self._away_since >= _SUSPECT_S

    def _answers(self, kind: str) -> bool:
        try:
            self._backend.probe(kind)
        except (Unavailable, Refused):
            return False
        return True

    def _refuses_all(self, kind: str) -> bool:
        try:
            self._backend.probe(kind)
        except Refused:
            return True
        except Unavailable:
            return False
        return False

    def _reject(self, record: Record, reason: str) -> None:
        self._journal.reject(record, reason)
        self.num_rejected += 1
        if self.num_rejected == 1:
            logger.warning(
                "tracking: the server refused a record (%s) for good: %s. It is kept in %s, and so are further ones",
                record.kind,
                reason,
                self._journal.folder / "rejected.jsonl",
            )

    def _note_away(self, reason: str) -> float:
        if self._failures == 0:
            self._away_since = self._clock()
            logger.warning(
                "tracking: %s is away (%s). The run goes on; records wait in %s",
                self._journal.run.tracking_uri,
                reason,
                self._journal.folder,
            )
        self._failures += 1
        return self._backoff.wait_s(self._failures)

    def _note_back(self) -> None:
        if self._failures:
            away_s = self._clock() - self._away_since
            self._failures = 0
            logger.warning(
                "tracking: %s is back after %.0f s; %d records are being delivered",
                self._journal.run.tracking_uri,
                away_s,
                self._journal.pending,
            )


def _mapping(record: Record, field: str) -> Mapping[str, Any]:
    value = record.body[field]
    assert isinstance(value, Mapping)
    return value


def _points(record: Record) -> list[MetricPoint]:
    step = record.body["step"]
    assert isinstance(step, int)
    return [MetricPoint(k, float(v), record.time_ms, step) for k, v in _mapping(record, "values").items()]


def _parts(record: Record) -> list[Record]:
    """A record of several values as one record each, so that a bad value does not take the others with it."""
    if record.kind not in {"metrics", "params", "tags"}:
        return [record]
    return [replace(record, body={**record.body, "values": {k: v}}) for k, v in _mapping(record, "values").items()]


def _chunks(values: Mapping[str, str]) -> list[dict[str, str]]:
    items = list(values.items())
    return [dict(items[start : start + MAX_FIELDS]) for start in range(0, len(items), MAX_FIELDS)]
