"""Register an exported model, so that others find it by a name and an alias."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from steerline.errors import TrackingError
from steerline.tracking.connection import connect, patiently
from steerline.tracking.mlflow_backend import TAG_URI
from steerline.tracking.naming import lineage_tags
from steerline.tracking.queries import quoted
from steerline.tracking.references import RunRef

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

# A model's own parents are found through the model.
_PARENT = "steerline.parent"


@dataclass(frozen=True)
class Registered:
    """A version in the model registry, as read back from it."""

    name: str
    version: str
    alias: str | None
    weights: str
    """Where the weights lie."""

    @property
    def uri(self) -> str:
        """`models:/name/version`, which never moves, unlike an alias."""
        return f"models:/{self.name}/{self.version}"


def register(
    run: RunRef,
    model: str,
    name: str,
    alias: str | None = None,
    *,
    parents: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Registered:
    """Register a model that the run has exported, and read it back.

    The version points to the model's entry in MLflow, which holds the small files and, in its tag `steerline.uri`, the
    address of the weights. Registering the same model under the same name again gives the version it already has.

    Args:
        run: the run that exported it.
        model: its name in the run, or the folder it was exported to. Flush the recorder first.
        name: name in the registry; made if missing.
        alias: alias to move to this version.
        parents: role to reference of further ancestors; the run is always one.
        tags: further tags of a new version.
        timeout_s: how long to wait for a server that is away.

    Raises:
        TrackingError: the run has no such model, the server stayed away, or what is read back differs.
    """
    client = connect(run.tracking_uri)
    return patiently(
        lambda: _register(client, run, model, name, alias, dict(parents or {}), dict(tags or {})),
        what=f"register {name}",
        tracking_uri=run.tracking_uri,
        timeout_s=timeout_s,
    )


def resolve(uri: str, reference: str, *, timeout_s: float = 15.0) -> Registered:
    """The version that `models:/name@alias` or `models:/name/version` stands for.

    Raises:
        TrackingError: it is not such a reference, there is no such version, or the server is away.
    """
    client = connect(uri)
    return patiently(
        lambda: _registered(client, find_version(client, reference)),
        what=f"find {reference}",
        tracking_uri=uri,
        timeout_s=timeout_s,
    )


def lookup(uri: str, reference: str, *, timeout_s: float = 5.0) -> Registered | None:
    """As `resolve`; none where the server knows no such version.

    Raises:
        TrackingError: it is not such a reference, or the server is away.
    """
    from mlflow.exceptions import MlflowException

    client = connect(uri)

    def find() -> Registered | None:
        try:
            return _registered(client, find_version(client, reference))
        except MlflowException as error:
            # An alias that does not exist is an invalid value to MLflow.
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise

    return patiently(find, what=f"find {reference}", tracking_uri=uri, timeout_s=timeout_s)


def aliases(uri: str, name: str, *, timeout_s: float = 1.0) -> dict[str, str]:
    """Version by alias of a registered name.

    Raises:
        TrackingError: there is no such name, or the server is away.
    """
    client = connect(uri)
    return patiently(
        lambda: {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()},
        what=f"list {name}",
        tracking_uri=uri,
        timeout_s=timeout_s,
    )


def fetch(uri: str, version: Registered, folder: Path, *, timeout_s: float = 60.0) -> Path:
    """The files of a version that the server holds, in a folder that appears when it is complete.

    Args:
        uri: the server.
        version: from its registry.
        folder: where they go, unless they are there already.
        timeout_s: how long to wait for a server that is away.

    Returns:
        the folder. The weights are in it only if they were uploaded.

    Raises:
        TrackingError: the server is away or refuses, or this machine's disk is full.
    """
    from mlflow.artifacts import download_artifacts

    client = connect(uri)
    folder.parent.mkdir(parents=True, exist_ok=True)

    def download() -> None:
        if folder.is_dir():
            return  # another process was faster
        source = client.get_model_version(version.name, version.version).source
        if source.startswith("models:/"):
            source = client.get_logged_model(source.removeprefix("models:/")).artifact_location
        with _room_on_disk(folder.parent), TemporaryDirectory(dir=folder.parent) as scratch:
            downloaded = Path(download_artifacts(artifact_uri=source, dst_path=scratch, tracking_uri=uri))
            try:
                downloaded.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise  # otherwise another process was faster, and its files are the same

    patiently(download, what=f"fetch {version.uri}", tracking_uri=uri, timeout_s=timeout_s)
    return folder


def find_version(client: MlflowClient, reference: str) -> ModelVersion:
    """The MLflow entity of `models:/name@alias` or `models:/name/version`."""
    path = reference.removeprefix("models:/")
    name, at, alias = path.partition("@")
    if at:
        return client.get_model_version_by_alias(name, alias)
    name, slash, version = path.rpartition("/")
    if not slash or not version.isdigit() or not reference.startswith("models:/"):
        raise TrackingError(
            "Not a reference to a registered model",
            got=reference,
            expected="models:/name@alias or models:/name/version",
        )
    return client.get_model_version(name, version)


@contextmanager
def _room_on_disk(folder: Path) -> Iterator[None]:
    """Says at once that a disk is full: no server mends that, so that nobody should wait for one."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (OSError, MlflowException) as error:
        # MLflow gathers as words what fails for several files.
        if any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):
            raise TrackingError("this machine's disk is full", where=str(folder)) from error
        raise


def _register(
    client: MlflowClient,
    run: RunRef,
    model: str,
    name: str,
    alias: str | None,
    parents: dict[str, str],
    further: dict[str, str],
) -> Registered:
    from mlflow.exceptions import MlflowException

    entity = _find_export(client, run, model)
    source = f"models:/{entity.model_id}"
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = [v for v in client.search_model_versions(f"name = {quoted(name)}") if v.source == source]
    inherited = {k: v for k, v in entity.tags.items() if k.startswith("steerline.") and not k.startswith(_PARENT)}
    tags = {**further, **inherited, **lineage_tags({"model": source, "run": run.run_id, **parents})}
    version = (
        known[0]
        if known
        else client.create_model_version(
            name, source, run_id=run.run_id, tags=tags, model_id=entity.model_id, await_creation_for=0
        )
    )
    if alias is not None:
        client.set_registered_model_alias(name, alias, version.version)
    read_back = find_version(client, f"models:/{name}@{alias}" if alias else f"models:/{name}/{version.version}")
    if read_back.source != source or str(read_back.version) != str(version.version) or read_back.status != "READY":
        raise TrackingError(
            "The registry does not give back what was registered",
            where=f"models:/{name}/{version.version}",
            got=f"version {read_back.version} from {read_back.source}, {read_back.status}",
            expected=f"version {version.version} from {source}, READY",
        )
    return _registered(client, read_back, alias)


def _registered(client: MlflowClient, version: ModelVersion, alias: str | None = None) -> Registered:
    model_id = version.source.removeprefix("models:/")
    weights = version.tags.get(TAG_URI) or client.get_logged_model(model_id).tags.get(TAG_URI, version.source)
    return Registered(version.name, str(version.version), alias, weights)


def _find_export(client: MlflowClient, run: RunRef, model: str) -> LoggedModel:
    models = client.search_logged_models([run.experiment_id], filter_string=f"source_run_id = '{run.run_id}'")
    for entity in models:
        if model in (entity.name, entity.tags.get(TAG_URI)):
            return entity
    raise TrackingError(
        "The run has recorded no such model",
        where=run.run_id,
        got=model,
        expected=", ".join(sorted(entity.name for entity in models)) or "any exported model",
        fix="record it with Recorder.exported_model and flush the recorder before registering",
    )
