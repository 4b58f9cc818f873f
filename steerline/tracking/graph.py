"""One step of lineage at a time: what a thing on the server was made from, and what was made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steerline.tracking.mlflow_backend import MAX_DIGEST_CHARS, TAG_DIGEST, TAG_KIND, TAG_URI
from steerline.tracking.naming import TAG_PARENT, TAG_PARENT_RUN, TAG_PARENTS, TAG_RUN_NAME
from steerline.tracking.queries import quoted, search_runs
from steerline.tracking.registry import find_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

Link = tuple[str, "Entity"]


@dataclass(frozen=True)
class Entity:
    """Something on the server. Exactly one of the MLflow entities is set for runs, models and versions."""

    kind: str
    title: str
    ref: str
    run: Run | None = None
    model: LoggedModel | None = None
    version: ModelVersion | None = None


class Graph:
    """Looks up entities and their direct links."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    # Finding

    def run_by_id(self, run_id: str) -> Entity | None:
        """The run of an id, if there is one."""
        from mlflow.exceptions import MlflowException

        try:
            return _run_entity(self._client.get_run(run_id))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def run_by_name(self, name: str) -> Entity | None:
        """The newest run of a name, if there is one."""
        runs = search_runs(self._client, f"tags.`{TAG_RUN_NAME}` = {quoted(name)}")
        return _run_entity(max(runs, key=lambda run: run.info.start_time)) if runs else None

    def model(self, reference: str) -> Entity:
        """The registered version, checkpoint or export of a `models:/` reference."""
        if reference.startswith("models:/m-"):
            return _model_entity(self._client.get_logged_model(reference.removeprefix("models:/")))
        return _version_entity(find_version(self._client, reference))

    def dataset(self, digest: str) -> Entity | None:
        """The data set whose digest begins like this, if a run has read it."""
        for run in self._readers(digest):
            for item in run.inputs.dataset_inputs:
                tags = {tag.key: tag.value for tag in item.tags}
                whole = tags.get(TAG_DIGEST, item.dataset.digest)
                if whole.startswith(digest):
                    return Entity("dataset", item.dataset.name, whole)
        return None

    def _readers(self, digest: str) -> list[Run]:
        return search_runs(self._client, f"dataset.digest LIKE '{digest[:MAX_DIGEST_CHARS]}%'")

    # Upwards

    def sources(self, entity: Entity) -> list[Link]:
        """What the thing was made from, each with its role."""
        if entity.version is not None:
            return self._sources_of_version(entity.version)
        if entity.model is not None:
            return self._sources_of_model(entity.model)
        if entity.run is not None:
            return self._sources_of_run(entity.run)
        return []

    def _sources_of_version(self, version: ModelVersion) -> list[Link]:
        if version.source.startswith("models:/m-"):
            return [("", self.model(version.source))]
        run = self.run_by_id(version.run_id) if version.run_id else None
        return [("", run)] if run is not None else []

    def _sources_of_model(self, model: LoggedModel) -> list[Link]:
        siblings = {m.name: m for m in self._models_of(model.experiment_id, model.source_run_id)}
        links: list[Link] = []
        for role, reference in _parents(model.tags):
            known = siblings.get(reference)
            links.append((role, _model_entity(known) if known is not None else self._resolve(reference)))
        from_checkpoint = any(entity.kind == "checkpoint" for _, entity in links)
        run = None if from_checkpoint else self.run_by_id(model.source_run_id)
        return [*links, *([("", run)] if run is not None else [])]

    def _sources_of_run(self, run: Run) -> list[Link]:
        links: list[Link] = []
        for item in run.inputs.dataset_inputs:
            tags = {tag.key: tag.value for tag in item.tags}
            digest = tags.get(TAG_DIGEST, item.dataset.digest)
            links.append((tags.get("mlflow.data.context", ""), Entity("dataset", item.dataset.name, digest)))
        links += [(role, self._resolve(reference)) for role, reference in _parents(run.data.tags)]
        above = run.data.tags.get(TAG_PARENT_RUN)
        if above is not None and (parent := self.run_by_id(above)) is not None:
            links.append(("parent", parent))
        return links

    def _resolve(self, reference: str) -> Entity:
        """The entity of a reference in a lineage tag; one that the server does not know stands for itself."""
        from mlflow.exceptions import MlflowException

        if reference.startswith("models:/"):
            try:
                return self.model(reference)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        found = None
        if re.fullmatch(r"[0-9a-f]{32}", reference):
            found = self.run_by_id(reference)
        elif re.fullmatch(r"[0-9a-f]{64}", reference):
            found = self.dataset(reference)
        return found or Entity("other", reference, reference)

    # Downwards

    def results(self, entity: Entity) -> list[Link]:
        """What was made from the thing, each with its role."""
        if entity.kind == "dataset":
            readers: list[Link] = [("", _run_entity(run)) for run in self._readers(entity.ref)]
            return [*readers, *self._runs_derived_from(entity.ref)]
        if entity.version is not None:
            return self._runs_derived_from(entity.ref)
        if entity.model is not None:
            return self._results_of_model(entity.model)
        if entity.run is not None:
            return self._results_of_run(entity.run)
        return self._runs_derived_from(entity.ref)

    def _results_of_run(self, run: Run) -> list[Link]:
        models = self._models_of(run.info.experiment_id, run.info.run_id)
        names = {model.name for model in models}
        # An export made from one of the run's checkpoints is found under that checkpoint.
        own = [m for m in models if not any(reference in names for _, reference in _parents(m.tags))]
        below = search_runs(self._client, f"tags.`{TAG_PARENT_RUN}` = '{run.info.run_id}'")
        links: list[Link] = [("", _model_entity(model)) for model in own]
        links += [("child", _run_entity(child)) for child in below]
        return [*links, *self._runs_derived_from(run.info.run_id)]

    def _results_of_model(self, model: LoggedModel) -> list[Link]:
        siblings = self._models_of(model.experiment_id, model.source_run_id)
        reference = f"models:/{model.model_id}"
        derived = [m for m in siblings if any(r in (model.name, reference) for _, r in _parents(m.tags))]
        links: list[Link] = [("", _model_entity(m)) for m in derived]
        versions = self._client.search_model_versions(f"run_id = '{model.source_run_id}'")
        # A search leaves the aliases out; reading a version by itself gives them.
        known = [self._client.get_model_version(v.name, v.version) for v in versions if v.source == reference]
        links += [("", _version_entity(version)) for version in known]
        return [*links, *self._runs_derived_from(reference)]

    def _runs_derived_from(self, reference: str) -> list[Link]:
        runs = search_runs(self._client, f"tags.`{TAG_PARENTS}` LIKE {quoted(f'%,{reference},%')}")
        return [
            (next((role for role, parent in _parents(run.data.tags) if parent == reference), ""), _run_entity(run))
            for run in runs
        ]

    def _models_of(self, experiment_id: str, run_id: str) -> list[LoggedModel]:
        found: list[LoggedModel] = []
        token: str | None = None
        while True:
            page = self._client.search_logged_models(
                [experiment_id], filter_string=f"source_run_id = '{run_id}'", page_token=token
            )
            found.extend(page)
            token = page.token
            if not token:
                return sorted(found, key=lambda model: (model.creation_timestamp, model.name))


def _parents(tags: dict[str, str]) -> list[tuple[str, str]]:
    return sorted((k.removeprefix(TAG_PARENT), v) for k, v in tags.items() if k.startswith(TAG_PARENT))


def _run_entity(run: Run) -> Entity:
    title = run.data.tags.get(TAG_RUN_NAME) or run.info.run_name
    return Entity("run", title, run.info.run_id, run=run)


def _model_entity(model: LoggedModel) -> Entity:
    kind = "export" if model.tags.get(TAG_KIND) == "export" else "checkpoint"
    title = f"{model.name} at {model.tags.get(TAG_URI, model.artifact_location)}"
    return Entity(kind, title, f"models:/{model.model_id}", model=model)


def _version_entity(version: ModelVersion) -> Entity:
    names = "".join(f"@{alias}" for alias in version.aliases)
    return Entity(
        "version",
        f"{version.name} version {version.version}{names}",
        f"models:/{version.name}/{version.version}",
        version=version,
    )
