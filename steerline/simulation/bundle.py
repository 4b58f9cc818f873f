"""A run as a folder that travels: spec, log, journal, manifest. It can be checked and replayed anywhere.

spec.json        the resolved spec
events.jsonl.gz  the log, one event a line
calls.jsonl.gz   the journal, one call a line
manifest.json    what it was made of
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.simulation.canonical import canonical, plain
from steerline.simulation.event import Event
from steerline.simulation.manifest import manifest
from steerline.simulation.restoring import check_chain
from steerline.simulation.result import Result
from steerline.simulation.store.base import Call, Store


@dataclass(frozen=True)
class Bundle:
    """What a folder holds."""

    spec: SimulationSpec
    events: tuple[Event, ...]
    calls: tuple[Call, ...]
    manifest: dict[str, Any]


def write_bundle(result: Result, store: Store, folder: Path) -> Path:
    """Write a run to a folder, which is made if missing; equal runs give equal files but for wall times."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(result.spec.model_dump(mode="json"), indent=2, sort_keys=True) + "\n")
    _write_lines(folder / "events.jsonl.gz", (asdict(event) for event in result.events))
    _write_lines(folder / "calls.jsonl.gz", (asdict(call) for call in store.calls(result.sim)))
    (folder / "manifest.json").write_text(json.dumps(manifest(result, store), indent=2, sort_keys=True) + "\n")
    return folder


def read_bundle(folder: Path) -> Bundle:
    """Read a run from a folder, and see that its log is whole.

    Raises:
        SimulationError: a file is missing or damaged.
        CorruptLogError: an event was altered or is missing.
    """
    try:
        spec = SimulationSpec.model_validate_json((folder / "spec.json").read_bytes())
        events = tuple(Event(**fields) for fields in _lines(folder / "events.jsonl.gz"))
        calls = tuple(Call(**fields) for fields in _lines(folder / "calls.jsonl.gz"))
        kept: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise SimulationError("the bundle cannot be read", where=str(folder), got=str(error)[:400]) from error
    check_chain(events, folder.name)
    return Bundle(spec, events, calls, kept)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    # Without a time stamp, so that equal content is an equal file.
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        for row in rows:
            packed.write(canonical(row) + b"\n")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rb") as file:
        for line in file:
            yield plain(line)
