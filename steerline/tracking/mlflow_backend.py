"""Writes to one MLflow run. Each write may be repeated without changing the outcome.

What that rests on in MLflow 3.17's SQL store: the identity of a metric point is (run, key, step, time, value), and a
repeated one is left out (`_log_metrics`); a parameter may be set again to the same value (`_log_params`); tags and
artefacts are replaced; a data set is found by (experiment, name, digest) and its link to the run is made once
(`log_inputs`). Models get a new id on each creation and linking one twice fails, so both are looked up first; one
process owns a run, so nobody comes in between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from steerline.tracking.backend import DatasetInput, MetricPoint, ModelOutput, Trace, Unavailable
from steerline.tracking.connection import connect, sort_out
from steerline.tracking.references import RunRef

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

# MLflow's limits (mlflow.utils.validation).
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 8000
MAX_DIGEST_CHARS = 36

TAG_KIND = "steerline.kind"
TAG_URI = "steerline.uri"
TAG_STEP = "steerline.step"
TAG_DIGEST = "steerline.digest"


class MlflowBackend:
    """The `Backend` of a real server.

    Args:
        run: the run to write to. The client is made at the first write.
    """

    def __init__(self, run: RunRef) -> None:
        self._run = run
        self._made: MlflowClient | None = None

    @property
    def _client(self) -> MlflowClient:
        # The first write is in the delivery thread: importing MLflow takes seconds that training need not wait for.
        if self._made is None:
            self._made = connect(self._run.tracking_uri)
        return self._made

    def last_steps(self) -> dict[str, int]:
        """The highest step on the server of each metric."""
        with _sorted_errors():
            latest = self._client.get_run(self._run.run_id).to_proto().data.metrics
            return {metric.key: metric.step for metric in latest}

    def log_metrics(self, points: Sequence[MetricPoint]) -> None:
        """Add the points in one transaction."""
        with _sorted_errors():
            from mlflow.entities import Metric

            metrics = [Metric(p.key, p.value, p.time_ms, p.step) for p in points]
            self._client.log_batch(self._run.run_id, metrics=metrics, synchronous=True)

    def log_params(self, values: Mapping[str, str]) -> None:
        """Set parameters, shortened to what MLflow keeps."""
        with _sorted_errors():
            from mlflow.entities import Param

            params = [Param(k, v[:MAX_PARAM_CHARS]) for k, v in values.items()]
            self._client.log_batch(self._run.run_id, params=params, synchronous=True)

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Set or replace tags, shortened to what MLflow keeps."""
        with _sorted_errors():
            from mlflow.entities import RunTag

            tags = [RunTag(k, v[:MAX_TAG_CHARS]) for k, v in values.items()]
            self._client.log_batch(self._run.run_id, tags=tags, synchronous=True)

    def upload(self, path: Path, folder: str) -> None:
        """Store a file under the run's artefacts."""
        with _sorted_errors():
            self._client.log_artifact(self._run.run_id, str(path), folder or None)

    def log_dataset(self, dataset: DatasetInput) -> None:
        """Link a data set. MLflow keeps 36 characters of a digest; the whole one is a tag of the link."""
        with _sorted_errors():
            from mlflow.entities import Dataset, InputTag
            from mlflow.entities import DatasetInput as MlflowDatasetInput

            entity = Dataset(
                name=dataset.name,
                digest=dataset.digest[:MAX_DIGEST_CHARS],
                source_type="steerline",
                source=json.dumps({"uri": dataset.source}),
                profile=dataset.profile,
            )
            tags = [InputTag("mlflow.data.context", dataset.context), InputTag(TAG_DIGEST, dataset.digest)]
            self._client.log_inputs(self._run.run_id, datasets=[MlflowDatasetInput(entity, tags)])

    def log_model(self, model: ModelOutput) -> None:
        """Create the model or find it by its name, upload its files, and link it to the run."""
        with _sorted_errors():
            entity = self._find_model(model.name) or self._create_model(model)
            self._client.set_logged_model_tags(entity.model_id, self._model_tags(model))
            for path, folder in model.files:
                self._client.log_model_artifact(entity.model_id, str(path), folder or None)
            self._client.finalize_logged_model(entity.model_id, "READY")
            self._link_model(entity.model_id, model.step)

    def _find_model(self, name: str) -> LoggedModel | None:
        found = self._client.search_logged_models(
            [self._run.experiment_id], filter_string=f"name = '{name}' AND source_run_id = '{self._run.run_id}'"
        )
        return found[0] if found else None

    def _create_model(self, model: ModelOutput) -> LoggedModel:
        return self._client.create_logged_model(
            self._run.experiment_id,
            name=model.name,
            source_run_id=self._run.run_id,
            tags=self._model_tags(model),
            params={k: v[:MAX_PARAM_CHARS] for k, v in model.params.items()},
            model_type=model.kind,
        )

    def _model_tags(self, model: ModelOutput) -> dict[str, str]:
        from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

        own = {TAG_KIND: model.kind, TAG_URI: model.uri, TAG_STEP: str(model.step), MLFLOW_MODEL_IS_EXTERNAL: "true"}
        return {k: v[:MAX_TAG_CHARS] for k, v in {**model.tags, **own}.items()}

    def _link_model(self, model_id: str, step: int) -> None:
        from mlflow.entities import LoggedModelOutput

        outputs = self._client.get_run(self._run.run_id).outputs
        linked = {output.model_id for output in outputs.model_outputs} if outputs is not None else set()
        if model_id not in linked:
            self._client.log_outputs(self._run.run_id, [LoggedModelOutput(model_id, step)])

    def log_trace(self, trace: Trace) -> None:
        """Store a trace. Its ids are hashes of the run's id and its name, so that sending it twice gives one."""
        with _sorted_errors():
            from steerline.tracking.mlflow_trace import send

            send(self._run, trace)

    def set_status(self, status: str) -> None:
        """Set the run's status; a final one also sets the run's end."""
        with _sorted_errors():
            if status == "RUNNING":
                self._client.update_run(self._run.run_id, status=status)
            else:
                self._client.set_terminated(self._run.run_id, status=status)

    def probe(self, kind: str) -> None:
        """Write a tag, or a tiny artefact for kinds that upload."""
        with _sorted_errors():
            if kind in {"artifact", "model"}:
                self._client.log_text(self._run.run_id, "ok", ".steerline/probe.txt")
            else:
                self._client.set_tag(self._run.run_id, "steerline.probe", str(int(time.time())), synchronous=True)


@contextmanager
def _sorted_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # An artefact store's own client raises what it likes. Waiting is right for most of it, and a record that
        # keeps failing alone is set aside in the end.
        raise sort_out(error) or Unavailable(f"{type(error).__name__}: {error}") from error
