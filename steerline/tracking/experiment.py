"""An experiment on a tracking server: finds or makes the run of a name, and writes what describes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from steerline.config.tracking import TrackingSpec
from steerline.errors import TrackingError
from steerline.tracking import naming
from steerline.tracking.connection import connect, patiently
from steerline.tracking.mlflow_backend import MlflowBackend
from steerline.tracking.provenance import Provenance, collect
from steerline.tracking.queries import quoted, search_runs
from steerline.tracking.redact import Redactor
from steerline.tracking.references import RunRef, resolve_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")


@dataclass(frozen=True)
class Experiment:
    """An experiment on a server, as one process writes about its runs. Secrets are masked."""

    client: MlflowClient
    spec: TrackingSpec
    uri: str
    experiment_id: str
    seen: Provenance
    redactor: Redactor
    timeout_s: float

    @classmethod
    def open(cls, spec: TrackingSpec, provenance: Provenance | None, timeout_s: float) -> Experiment:
        """The experiment that a spec names, made where there is none.

        Args:
            spec: server, experiment and further tags.
            provenance: git, packages, user and host; none looks around now.
            timeout_s: how long to wait for a server that is away.

        Raises:
            TrackingError: the server stayed away or refused, or the experiment was deleted.
        """
        uri = resolve_uri(spec)
        client = connect(uri)
        redactor = Redactor.from_environment()
        experiment_id = patiently(
            lambda: _experiment(client, spec.experiment),
            what="open the experiment",
            tracking_uri=uri,
            timeout_s=timeout_s,
        )
        seen = provenance or collect(redactor=redactor)
        return cls(client, spec, uri, experiment_id, seen, redactor, timeout_s)

    def ask(self, what: str, call: Callable[[], T]) -> T:
        """Run a call to the server, again while the server is away.

        Raises:
            TrackingError: it stayed away or refused.
        """
        return patiently(call, what=what, tracking_uri=self.uri, timeout_s=self.timeout_s)

    def ref(self, run: Run) -> RunRef:
        """The run's address."""
        return RunRef(self.uri, self.experiment_id, run.info.run_id, run.info.start_time)

    def find_or_create(self, run_name: str) -> tuple[Run, bool]:
        """The run of this name, and whether it is new."""
        condition = f"tags.`{naming.TAG_RUN_NAME}` = {quoted(run_name)}"
        found = search_runs(self.client, condition, [self.experiment_id])
        if found:
            return min(found, key=_age), False
        tags = {naming.TAG_RUN_NAME: run_name, "mlflow.user": self.seen.user}
        created = self.client.create_run(self.experiment_id, tags=tags, run_name=run_name)
        # MLflow has no unique names. Whoever began at the same moment sees the same runs and keeps the same one.
        oldest = min([*search_runs(self.client, condition, [self.experiment_id]), created], key=_age)
        if oldest.info.run_id != created.info.run_id:
            self.client.delete_run(created.info.run_id)
            return oldest, False
        return created, True

    def tags(self, ref: RunRef, given: Mapping[str, str], own: Mapping[str, str | None]) -> None:
        """Set the spec's tags, `given` ones and those of the provenance, then our `own` where they have a value."""
        values = {
            **_provenance_tags(self.seen),
            **{naming.field_name(k): self.redactor.field(k, v) for k, v in {**self.spec.tags, **given}.items()},
            **{k: v for k, v in own.items() if v is not None},
        }
        _in_chunks(MlflowBackend(ref).set_tags, values)

    def forget(self, ref: RunRef, tag: str) -> None:
        """Remove a tag of the run if it has it."""
        if tag in self.client.get_run(ref.run_id).data.tags:
            self.client.delete_tag(ref.run_id, tag)

    def params(self, ref: RunRef, run: Run, values: Mapping[str, object]) -> None:
        """Set the parameters that the run does not have yet; MLflow never changes one."""
        fields = naming.flatten(values)
        new = {k: self.redactor.field(k, v) for k, v in fields.items() if k not in run.data.params}
        _in_chunks(MlflowBackend(ref).log_params, new)

    def files(
        self,
        ref: RunRef,
        attempt: int,
        config: Mapping[str, object] | None,
        config_provenance: Mapping[str, str] | None,
    ) -> None:
        """Upload the config, the packages and the diff: the first attempt's at the top."""
        for name, text in _files(config, config_provenance, self.seen, self.redactor).items():
            self.client.log_text(ref.run_id, text, name if attempt == 1 else f"attempts/{attempt}/{name}")


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            # Another run of the same moment was faster.
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            "The experiment was deleted",
            where="tracking.experiment",
            got=name,
            fix=f"mlflow experiments restore --experiment-id {found.experiment_id if found else '?'}, or another name",
        )
    return str(found.experiment_id)


def _age(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id


def _provenance_tags(seen: Provenance) -> dict[str, str]:
    tags = {
        "mlflow.user": seen.user,
        "steerline.host": seen.host,
        "steerline.python": seen.python,
        "steerline.packages_digest": seen.packages_digest,
    }
    if seen.git is not None:
        tags["mlflow.source.git.commit"] = seen.git.commit
        tags["mlflow.source.git.branch"] = seen.git.branch
        tags["mlflow.source.git.dirty"] = str(seen.git.is_dirty).lower()
        tags["steerline.git.diff_sha256"] = seen.git.diff_sha256 or "clean"
        if seen.git.remote:
            tags["mlflow.source.git.repoURL"] = seen.git.remote
    return tags


def _files(
    config: Mapping[str, object] | None,
    config_provenance: Mapping[str, str] | None,
    seen: Provenance,
    redactor: Redactor,
) -> dict[str, str]:
    files = {"packages.txt": seen.packages}
    if config is not None:
        files["config.resolved.json"] = json.dumps(redactor.tree(config), indent=2)
    if config_provenance is not None:
        files["provenance.json"] = json.dumps(dict(config_provenance), indent=2)
    if seen.git is not None and seen.git.diff:
        files["git.diff"] = seen.git.diff
    return files


def _in_chunks(write: Callable[[Mapping[str, str]], None], values: Mapping[str, str], size: int = 100) -> None:
    items = list(values.items())
    for start in range(0, len(items), size):
        write(dict(items[start : start + size]))
