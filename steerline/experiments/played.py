"""What is left of a simulation in its folder, and what a job reads from it.

simulation.sqlite   the store, out of which it goes on
spec.json, events.jsonl.gz, calls.jsonl.gz, manifest.json   the bundle, which can be replayed anywhere
transcript.jsonl    the reasoning traces, one turn a line
played.json         its result in numbers
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from steerline.simulation.bundle import write_bundle
from steerline.simulation.canonical import canonical
from steerline.simulation.cells import Cell
from steerline.simulation.efficiency import efficiency
from steerline.simulation.result import Result
from steerline.simulation.store.base import Store
from steerline.simulation.traces import write_traces

State = Literal["ended", "stopped", "paused", "waiting", "failed"]
FILES = ("spec.json", "events.jsonl.gz", "calls.jsonl.gz", "manifest.json", "transcript.jsonl")
_RESULT = "played.json"


@dataclass(frozen=True)
class Played:
    """A simulation as it stands.

    Args:
        name: the simulation's.
        state: `ended` or `stopped` for good; `paused` by a budget or `waiting` for a person, so that another attempt
            goes on; `failed`, so that another attempt tries again.
        reason: why.
        ticks: ticks committed.
        hash: of its last event.
        metrics: name to value after each tick [T]; the scenario's own.
        outcome: the scenario's result, as plain data.
        efficiency: calls, tokens, talk and time, by name (`steerline.simulation.efficiency`).
        seconds: that this attempt took.
    """

    name: str
    state: State
    reason: str
    ticks: int = 0
    hash: str = ""
    metrics: Mapping[str, list[float]] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    efficiency: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_final(self) -> bool:
        """Whether there is nothing left to play."""
        return self.state in ("ended", "stopped")

    @property
    def last(self) -> dict[str, float]:
        """The metrics after the last tick that gave them."""
        return {name: values[-1] for name, values in self.metrics.items() if values}

    def save(self, folder: Path) -> None:
        """Write `played.json`, whole or not at all."""
        scratch = folder / f"{_RESULT}.partial"
        scratch.write_bytes(canonical(asdict(self)))
        scratch.replace(folder / _RESULT)

    @classmethod
    def load(cls, folder: Path) -> Played | None:
        """What an earlier attempt left; none where it never came so far."""
        path = folder / _RESULT
        return cls(**json.loads(path.read_bytes())) if path.is_file() else None


def keep(
    cell: Cell, result: Result, store: Store, folder: Path, seconds: float, worth: Mapping[str, float] | None = None
) -> Played:
    """Write a simulation's files, and its result last, so that a result stands for all of them.

    Args:
        cell: the simulation.
        result: what came of it.
        store: holds it.
        folder: gets the files.
        seconds: that this attempt took.
        worth: what a baseline says of it; joins its efficiency.
    """
    write_bundle(result, store, folder)
    write_traces(result, store, folder / "transcript.jsonl")
    names = dict.fromkeys(name for values in result.metrics for name in values)
    played = Played(
        cell.name,
        result.status,
        result.reason,
        result.tick,
        result.hash,
        {name: [values[name] for values in result.metrics if name in values] for name in names},
        dict(result.outcome),
        {**efficiency(result, tuple(store.calls(result.sim))), **(worth or {})},
        seconds,
    )
    played.save(folder)
    return played
