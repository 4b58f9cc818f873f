"""A tracking server in memory, with MLflow's rules for repeated writes, that can be away, refuse, or be slow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from steerline.tracking.backend import DatasetInput, MetricPoint, ModelOutput, Refused, Trace, Unavailable
from steerline.tracking.references import RunRef

RUN = RunRef("http://127.0.0.1:5000", "1", "0123456789abcdef0123456789abcdef")


class FakeBackend:
    """Keeps what it is told. `away` and `refuse` decide what it answers; `before`/`after` see every write."""

    def __init__(self) -> None:
        self.points: list[MetricPoint] = []
        self.params: dict[str, str] = {}
        self.tag_values: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.datasets: list[DatasetInput] = []
        self.models: dict[str, ModelOutput] = {}
        self.traces: dict[str, Trace] = {}
        self.statuses: list[str] = []
        self.calls: list[str] = []
        self.away = False
        self.broken_kinds: set[str] = set()
        self.refuse: Callable[[str, object], bool] = lambda kind, value: False
        self.hook: Callable[[str], None] = lambda moment: None

    def _enter(self, kind: str, value: object) -> None:
        self.calls.append(kind)
        self.hook(f"before {kind}")
        if self.away or kind in self.broken_kinds:
            raise Unavailable("connection refused")
        if self.refuse(kind, value):
            raise Refused("INVALID_PARAMETER_VALUE")

    def last_steps(self) -> dict[str, int]:
        self._enter("last_steps", None)
        steps: dict[str, int] = {}
        for point in self.points:
            steps[point.key] = max(point.step, steps.get(point.key, point.step))
        return steps

    def log_metrics(self, points: Sequence[MetricPoint]) -> None:
        for point in points:
            self._enter("metrics", point)
        known = {_identity(point) for point in self.points}
        for point in points:
            if _identity(point) not in known:
                known.add(_identity(point))
                self.points.append(point)
        self.hook("after metrics")

    def log_params(self, values: Mapping[str, str]) -> None:
        self._enter("params", values)
        if any(self.params.get(k, v) != v for k, v in values.items()):
            raise Refused("Changing param values is not allowed")
        self.params.update(values)
        self.hook("after params")

    def set_tags(self, values: Mapping[str, str]) -> None:
        self._enter("tags", values)
        self.tag_values.update(values)
        self.hook("after tags")

    def upload(self, path: Path, folder: str) -> None:
        self._enter("artifact", path.name)
        self.files[f"{folder}/{path.name}".lstrip("/")] = path.read_bytes()
        self.hook("after artifact")

    def log_dataset(self, dataset: DatasetInput) -> None:
        self._enter("dataset", dataset)
        if dataset not in self.datasets:
            self.datasets.append(dataset)

    def log_model(self, model: ModelOutput) -> None:
        self._enter("model", model)
        self.models[model.name] = model

    def log_trace(self, trace: Trace) -> None:
        self._enter("trace", trace)
        self.traces[trace.name] = trace

    def set_status(self, status: str) -> None:
        self._enter("status", status)
        self.statuses.append(status)

    def probe(self, kind: str) -> None:
        self._enter("probe", kind)

    def history(self, key: str) -> list[tuple[int, float]]:
        return [(p.step, p.value) for p in self.points if p.key == key]


def _identity(point: MetricPoint) -> tuple[str, int, int, float, bool]:
    nan = math.isnan(point.value)
    return (point.key, point.step, point.time_ms, 0.0 if nan else point.value, nan)


class Clock:
    """Monotonic seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
