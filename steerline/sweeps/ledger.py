"""What a sweep knows of its trials, as lines of JSON in its folder: the truth that a restart goes on from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["finished", "stopped_early", "failed"]
FILE = "trials.jsonl"


@dataclass(frozen=True)
class Found:
    """What came out of a trial.

    Args:
        state: `finished`, `stopped_early` by the scheduler, or `failed`.
        metrics: its last metrics.
        scores: task to the score of each item, for paired tests; empty where the job judges no items.
        cause: why it failed, for people.
        seconds: how long its last attempt took.
        tokens: training tokens that it took, padding included.
        export: folder of its exported model; none where there is none.
        curve: step to metrics on the way, by which a scheduler compares.
    """

    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    cause: str | None = None
    seconds: float = 0.0
    tokens: int = 0
    export: str | None = None
    curve: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A trial that has ended for good.

    Args:
        name: its run.
        label: for people.
        found: what came out.
    """

    name: str
    label: str
    found: Found


class Ledger:
    """The ended trials of a sweep by their runs' names, and the points that its search has proposed.

    Args:
        folder: the sweep's folder. A last line that a killed process left unfinished is passed over.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        self.records: dict[str, Record] = {}
        self.proposed: list[dict[str, Any]] = []
        self._seconds, self._torn = 0.0, False
        self._unwritten: list[Mapping[str, Any]] = []
        self._read()
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the sweep has been going, over all attempts."""
        return self._seconds + time.monotonic() - self._began

    def propose(self, values: Mapping[str, Any]) -> None:
        """Note a point of the search. Whoever hands it out writes it down first (`sync`)."""
        self.proposed.append(dict(values))
        self._unwritten.append({"proposed": dict(values), "seconds": self.seconds})

    def sync(self) -> None:
        """Write down what was noted, so that a restart goes on with it: all points in one write."""
        if self._unwritten:
            self._append()

    def end(self, records: Sequence[Record]) -> None:
        """Write down that trials have ended."""
        self.records |= {record.name: record for record in records}
        self._append(*({"ended": asdict(record), "seconds": self.seconds} for record in records))

    def _append(self, *lines: Mapping[str, Any]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in (*self._unwritten, *lines))
        before, self._torn = "\n" if self._torn else "", True
        with self._path.open("a") as file:
            file.write(before + text)
            file.flush()
            # From here on it is in the file, also if the disk fails to say so.
            self._torn = False
            self._unwritten.clear()
            os.fsync(file.fileno())

    def _read(self) -> None:
        text = self._path.read_text() if self._path.exists() else ""
        self._torn = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # torn
            self._seconds = entry["seconds"]
            if "proposed" in entry:
                self.proposed.append(entry["proposed"])
            else:
                ended = entry["ended"]
                record = Record(ended["name"], ended["label"], Found(**ended["found"]))
                self.records[record.name] = record
