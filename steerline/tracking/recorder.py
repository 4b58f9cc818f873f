"""What a run tells the tracking server: metrics, parameters, tags, artefacts, data sets and models.

One process owns the recorder of a run. Every call writes to a journal on disk and returns; a background thread
delivers. The server may be away for any part of the run, or for all of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING

from steerline.errors import TrackingError
from steerline.tracking.backend import Backend, Trace
from steerline.tracking.delivery import Deliverer
from steerline.tracking.delivery_thread import DeliveryThread
from steerline.tracking.journal import Journal
from steerline.tracking.mlflow_backend import MlflowBackend
from steerline.tracking.naming import field_name, flatten, lineage_tags
from steerline.tracking.redact import Redactor
from steerline.tracking.references import RunRef

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".ckpt", ".h5", ".msgpack"})
_LARGEST_SMALL_FILE = 32 << 20
_LARGEST_MASKED_FILE = 16 << 20


class Recorder:
    """Records to one run.

    A metric whose step this run already has (from an earlier attempt that had gone further than the checkpoint it is
    resumed from) is left out, so that a loop just records every step it computes. Steps of a metric must rise from one
    attempt to the next; within a process their order is free.

    Args:
        run: the run to record to.
        spool_folder: where undelivered records are kept, in a folder of the run's id. Put it on storage that outlives
            the process; it is small.
        buffer_s: seconds for which records are gathered into one batch.
        redactor: masks secrets in everything recorded; the default knows the environment's.
        backend: the server; the default is the MLflow server of `run`.
        time_ms: the time stamped on records, in milliseconds since 1970.
        lock_wait_s: how long to wait for an earlier owner of the run to end.

    Raises:
        TrackingError: another process owns the run's spool, or the folder cannot be written.
    """

    def __init__(
        self,
        run: RunRef,
        spool_folder: Path,
        *,
        buffer_s: float = 1.0,
        redactor: Redactor | None = None,
        backend: Backend | None = None,
        time_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        lock_wait_s: float = 20.0,
    ) -> None:
        self.run = run
        self.folder = spool_folder / run.run_id
        self._redactor = redactor or Redactor.from_environment()
        self._time_ms = time_ms
        self._pid = os.getpid()
        self._closed = False
        self._journal = Journal(self.folder, run, lock_wait_s=lock_wait_s)
        self._earlier_steps = dict(self._journal.last_steps)
        self._own_steps: dict[str, int] = {}
        self._deliverer = Deliverer(self._journal, backend or MlflowBackend(run))
        self._thread = DeliveryThread(self._deliverer, self._journal, buffer_s=buffer_s)
        self._thread.start()

    # Numbers and words

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record the values of a step. NaN and infinities are kept.

        Args:
            values: metric names to values.
            step: the step they belong to; values of a step already recorded are left out.
        """
        step = int(step)
        new = {}
        for key, value in values.items():
            name = field_name(key)
            earlier = self._earlier_steps.get(name)
            if (earlier is None or step > earlier) and self._own_steps.get(name) != step:
                new[name] = float(value)
                self._own_steps[name] = step
        if new:
            self._append("metrics", {"step": step, "values": new})

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters; nested mappings become dotted names. MLflow never changes a parameter once set."""
        flat = {k: self._redactor.field(k, v) for k, v in flatten(values).items()}
        if flat:
            self._append("params", {"values": flat})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set or replace tags."""
        flat = {field_name(k): self._redactor.field(k, str(v)) for k, v in values.items()}
        if flat:
            self._append("tags", {"values": flat})

    def status(self, status: str) -> None:
        """Set the run's status (RUNNING, FINISHED, FAILED or KILLED), after everything recorded before."""
        self._append("status", {"status": status})

    # Artefacts

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a copy of a file as it is now.

        Args:
            path: the file. Its text is masked; binary files are taken as they are.
            folder: folder among the run's artefacts.

        Raises:
            TrackingError: there is no such file.
        """
        if not path.is_file():
            raise TrackingError("The artefact is not a file", where=str(path), fix="record each file of a folder")
        _check_relative(folder)
        self._keep(self._masked(path), path.name, folder)

    def _masked(self, path: Path) -> Path | bytes:
        if path.stat().st_size > _LARGEST_MASKED_FILE:
            return path
        try:
            return self._redactor.text(path.read_text(encoding="utf-8")).encode()
        except UnicodeDecodeError:
            return path

    def text(self, text: str, file: str) -> None:
        """Record a text as the artefact `file`, a relative path such as `samples/step_40.txt`."""
        self._keep_as(self._redactor.text(text).encode(), file)

    def json(self, value: object, file: str) -> None:
        """Record a JSON-like value as the artefact `file`."""
        self._keep_as(json.dumps(self._redactor.tree(value), indent=2).encode(), file)

    def figure(self, figure: Figure, file: str) -> None:
        """Record a matplotlib figure as a PNG, the one kind of image that MLflow's page shows in place.

        Args:
            figure: the figure; it is left open.
            file: relative path ending in `.png`.
        """
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=150, bbox_inches="tight")
        self._keep_as(image.getvalue(), file)

    def _keep_as(self, content: bytes, file: str) -> None:
        _check_relative(file)
        path = PurePosixPath(file)
        self._keep(content, path.name, "" if str(path.parent) == "." else str(path.parent))

    def _keep(self, content: Path | bytes, name: str, folder: str) -> None:
        stored = self._keep_file(content, name)
        if stored is not None:
            self._append("artifact", {"file": stored, "folder": folder})

    def _keep_file(self, content: Path | bytes, name: str) -> str | None:
        try:
            return self._journal.keep_file(content, name)
        except OSError as error:
            # A full disk under the spool costs the artefact, never the run.
            logger.warning("tracking: %s is not recorded, the spool cannot keep it (%s)", name, error)
            return None

    def trace(self, trace: Trace) -> None:
        """Record what happened in an episode, span by span; recording one of the same name again replaces it."""
        content = json.dumps(self._redactor.tree(asdict(trace))).encode()
        stored = self._keep_file(content, f"{trace.name}.json")
        if stored is not None:
            self._append("trace", {"file": stored})

    # What the run read and wrote

    def dataset(
        self,
        name: str,
        digest: str,
        context: str,
        source: str = "",
        rows: int | None = None,
        profile: Mapping[str, object] | None = None,
    ) -> None:
        """Link a data set to the run as an input.

        Args:
            name: its name.
            digest: hex digest of its content.
            context: what it is for, such as `training` or `heldout`.
            source: where it came from.
            rows: number of examples.
            profile: further facts, shown in MLflow.
        """
        facts = {**({} if rows is None else {"num_rows": rows}), **(profile or {})}
        body = {
            "name": name,
            "digest": digest,
            "context": context,
            "source": self._redactor.text(source),
            "profile": json.dumps(self._redactor.tree(facts)),
        }
        self._append("dataset", {"dataset": body})

    def checkpoint(
        self,
        name: str,
        uri: str,
        step: int,
        *,
        params: Mapping[str, object] | None = None,
        digests: Mapping[str, str] | None = None,
        parents: Mapping[str, str] | None = None,
    ) -> None:
        """Link a checkpoint. MLflow keeps its address and digests; the files stay where they are.

        Args:
            name: name within the run, such as `checkpoint-000040`; recording it again updates it.
            uri: where the checkpoint lies.
            step: the optimiser step after which it was written.
            params: facts shown with it, such as the ZeRO stage.
            digests: SHA-256 of each file by relative path.
            parents: role to reference of what it was derived from.
        """
        self._model(name, "checkpoint", uri, step, params or {}, digests or {}, parents or {}, [])

    def exported_model(
        self,
        name: str,
        folder: Path,
        step: int,
        *,
        params: Mapping[str, object] | None = None,
        digests: Mapping[str, str] | None = None,
        parents: Mapping[str, str] | None = None,
        upload_weights: bool = False,
    ) -> None:
        """Link an exported model. Its small files are uploaded; the weights only when asked.

        Args:
            name: name within the run, such as `export`.
            folder: the Hugging Face folder. It must stay until its files are delivered.
            step: the optimiser step it holds.
            params: facts shown with it.
            digests: SHA-256 of each file by relative path.
            parents: role to reference of what it was derived from, such as `{"checkpoint": "checkpoint-000040"}`.
            upload_weights: upload the weights as well.
        """
        files = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            is_small = path.suffix not in _WEIGHTS and path.stat().st_size <= _LARGEST_SMALL_FILE
            if is_small or upload_weights:
                inner = path.parent.relative_to(folder).as_posix()
                files.append((str(path.resolve()), "" if inner == "." else inner))
        self._model(name, "export", str(folder.resolve()), step, params or {}, digests or {}, parents or {}, files)

    def _model(
        self,
        name: str,
        kind: str,
        uri: str,
        step: int,
        params: Mapping[str, object],
        digests: Mapping[str, str],
        parents: Mapping[str, str],
        files: list[tuple[str, str]],
    ) -> None:
        if set(name) & set("/:.%\"'"):
            raise TrackingError("MLflow does not take this name for a model", got=name, expected="none of / : . % ' \"")
        tags = lineage_tags(parents)
        if digests:
            listing = "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))
            tags["steerline.digest"] = hashlib.sha256(listing.encode()).hexdigest()
            self.text(listing, f"models/{name}/sha256sums.txt")
        body = {
            "name": name,
            "kind": kind,
            "uri": self._redactor.text(uri),
            "step": int(step),
            "params": {k: self._redactor.field(k, v) for k, v in flatten(params).items()},
            "tags": tags,
            "files": files,
        }
        self._append("model", {"model": body})

    # Life

    def last_step(self, key: str) -> int | None:
        """The last step recorded for a metric, by this process or an earlier one whose spool is in the same folder."""
        known = [steps[key] for steps in (self._earlier_steps, self._own_steps) if key in steps]
        return max(known, default=None)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything recorded so far is on the server. Returns whether it is."""
        return self._thread.flush(timeout_s)

    def close(self, timeout_s: float = 30.0) -> bool:
        """Deliver the rest for at most `timeout_s` seconds. Returns whether all was delivered; never raises for it."""
        if self._closed:
            return self._journal.pending == 0
        self._closed = True
        ended = self._thread.stop(timeout_s)
        pending = self._journal.pending
        if pending:
            logger.warning(
                "tracking: %d records could not be delivered and stay in %s. The next attempt of this run sends them, "
                "or now: python -m steerline.tracking.spool %s",
                pending,
                self.folder,
                self.folder,
            )
        if ended:
            # Otherwise a request still hangs; the lock then goes with the process.
            self._journal.close()
        return pending == 0

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, kind: str, body: Mapping[str, object]) -> None:
        if self._closed or os.getpid() != self._pid:
            raise TrackingError(
                "This recorder is closed" if self._closed else "This recorder belongs to another process",
                where=str(self.folder),
                expected="one process that owns the run",
                fix="make a Recorder from the RunRef in the process that records",
            )
        self._journal.append(kind, body, self._time_ms())


def _check_relative(path: str) -> None:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise TrackingError("An artefact's name must be a relative path", got=path, expected="such as figures/loss.png")
