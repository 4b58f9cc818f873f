"""What the recorder needs of a tracking server. MLflow implements it; unit tests use a fake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class Unavailable(Exception):  # noqa: N818 - a state of the server, not a user's error
    """The server cannot be reached or cannot answer now. Trying again later may help."""


class Denied(Unavailable):
    """The server wants other credentials. A record can wait until it has them; who asks now is told."""


class Refused(Exception):  # noqa: N818 - an answer of the server, not a user's error
    """The server looked at the record and will never take it."""


@dataclass(frozen=True)
class MetricPoint:
    """One value of one metric. The four fields together are its identity on the server."""

    key: str
    value: float
    time_ms: int
    step: int


@dataclass(frozen=True)
class DatasetInput:
    """A data set that a run reads."""

    name: str
    digest: str
    context: str
    source: str
    profile: str


@dataclass(frozen=True)
class ModelOutput:
    """A checkpoint or an exported model that a run wrote. The weights stay at `uri`."""

    name: str
    kind: str
    uri: str
    step: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    files: tuple[tuple[Path, str], ...]
    """Files to upload, each with the folder it goes to."""


@dataclass(frozen=True)
class TraceSpan:
    """A stretch of time in a trace. Inputs, outputs and attributes are plain data."""

    name: str
    kind: str
    """MLflow's type of span: CHAIN, AGENT, LLM, ..."""
    start_ns: int
    end_ns: int
    parent: int | None = None
    """Place of the span around it in the trace's list; none for the first."""
    inputs: Any = None
    outputs: Any = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """What happened in an episode. Its name within the run is its identity on the server."""

    name: str
    spans: tuple[TraceSpan, ...]
    """The first is the whole."""
    ok: bool = True


class Backend(Protocol):
    """Writes to one run. Every method may be repeated with the same arguments without changing the outcome.

    Each raises `Unavailable` when the server is away and `Refused` when it will never accept the arguments.
    """

    def last_steps(self) -> dict[str, int]:
        """The highest step on the server of each metric."""

    def log_metrics(self, points: Sequence[MetricPoint]) -> None:
        """Add the points in one transaction. At most 1000."""

    def log_params(self, values: Mapping[str, str]) -> None:
        """Set parameters. The server refuses to change one."""

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Set or replace tags."""

    def upload(self, path: Path, folder: str) -> None:
        """Store a file under the run's artefacts, replacing one of the same name."""

    def log_dataset(self, dataset: DatasetInput) -> None:
        """Link a data set to the run as an input."""

    def log_model(self, model: ModelOutput) -> None:
        """Link a model to the run as an output; found again by its name."""

    def log_trace(self, trace: Trace) -> None:
        """Store a trace beside the run, replacing one of the same name."""

    def set_status(self, status: str) -> None:
        """Set the run's status: RUNNING, FINISHED, FAILED or KILLED."""

    def probe(self, kind: str) -> None:
        """A harmless write through the same path as records of this kind. Tells a bad record from a bad server."""
