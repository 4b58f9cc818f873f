"""The runs of a sweep's trials on the tracking server: each shown once, under the sweep's own run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from steerline.tracking import naming
from steerline.tracking.connection import connect, patiently
from steerline.tracking.mlflow_backend import MAX_PARAM_CHARS
from steerline.tracking.queries import quoted, search_runs
from steerline.tracking.redact import Redactor
from steerline.tracking.references import RunRef

if TYPE_CHECKING:
    from mlflow.entities import Run

TAG_STOPPED_EARLY = "steerline.stopped_early"
"""`true` on a trial that its scheduler stopped."""

_DISPLAYED = "mlflow.runName"
# MLflow takes no more of either in one call.
_MOST = 100


class Children:
    """The trials' runs of one sweep, as its own process writes about them, in several threads too.

    Args:
        parent: the sweep's run.
        timeout_s: how long to wait for a server that is away.

    Raises:
        TrackingError: the server stayed away or refused.
    """

    def __init__(self, parent: RunRef, timeout_s: float = 30.0) -> None:
        self._parent, self._timeout_s = parent, timeout_s
        self._client = connect(parent.tracking_uri)
        self._redactor = Redactor.from_environment()
        self._runs: dict[str, Run] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look which runs there are."""
        condition = f"tags.`{naming.TAG_PARENT_RUN}` = {quoted(self._parent.run_id)}"
        found = patiently(
            lambda: search_runs(self._client, condition, [self._parent.experiment_id]),
            what="look for a sweep's trials",
            tracking_uri=self._parent.tracking_uri,
            timeout_s=self._timeout_s,
        )
        self._runs = {run.data.tags.get(naming.TAG_RUN_NAME, run.info.run_id): run for run in found}

    def run_id(self, name: str) -> str | None:
        """The id of a trial's run; none where it has none."""
        run = self._runs.get(name)
        return None if run is None else str(run.info.run_id)

    def record(
        self,
        name: str,
        label: str,
        *,
        kind: str,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        status: str,
    ) -> None:
        """Show a trial that kept no run of its own: make its run if it has none, describe it and end it.

        Args:
            name: its name, by which it is found again.
            label: what the page calls it.
            kind: kind of job.
            params: what it was run with.
            metrics: what came out.
            tags: further tags.
            status: FINISHED, FAILED or KILLED.

        Raises:
            TrackingError: the server stayed away or refused.
        """

        def write() -> None:
            # Three requests, the fewest that MLflow allows: a run is neither made with metrics nor ended by a batch.
            run = self._runs.get(name)
            if run is None:
                self._describe(self._create(name, label, kind, tags), params, metrics, {})
            else:
                self._describe(run, params, metrics, tags)
            self._client.set_terminated(self._runs[name].info.run_id, status=status)

        self._ask(write)

    def mark(self, name: str, tags: Mapping[str, str], status: str | None = None) -> None:
        """Add tags to a trial's own run, and end it where it is left open; nothing where it has none."""
        run = self._runs.get(name)
        if run is None:
            return

        def write() -> None:
            self._describe(run, {}, {}, tags)
            if status is not None and self._client.get_run(run.info.run_id).info.status in ("RUNNING", "SCHEDULED"):
                self._client.set_terminated(run.info.run_id, status=status)

        self._ask(write)

    def _create(self, name: str, label: str, kind: str, tags: Mapping[str, str]) -> Run:
        all_tags = {
            **self._fields(tags),
            naming.TAG_RUN_NAME: name,
            naming.TAG_RUN_KIND: kind,
            naming.TAG_PARENT_RUN: self._parent.run_id,
            _DISPLAYED: label,
        }
        self._runs[name] = self._client.create_run(self._parent.experiment_id, tags=all_tags, run_name=label)
        return self._runs[name]

    def _describe(
        self, run: Run, params: Mapping[str, object], metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = time.time_ns() // 1_000_000
        flat = naming.flatten(params)
        self._client.log_batch(
            run.info.run_id,
            metrics=[Metric(naming.field_name(key), value, now, 0) for key, value in metrics.items()],
            params=[
                Param(key, self._redactor.field(key, text)[:MAX_PARAM_CHARS])
                for key, text in flat.items()
                if key not in run.data.params
            ][:_MOST],
            tags=[RunTag(key, text) for key, text in self._fields(tags).items()],
        )

    def _fields(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {naming.field_name(key): self._redactor.field(key, text) for key, text in tags.items()}

    def _ask(self, write: Callable[[], None]) -> None:
        patiently(write, what="record a trial", tracking_uri=self._parent.tracking_uri, timeout_s=self._timeout_s)
