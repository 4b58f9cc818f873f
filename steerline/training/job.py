"""What a run is, where its files lie, and what came out of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from steerline.config.finetune import FinetuneSpec
from steerline.config.render import identity_hash, resolved, run_name
from steerline.errors import SteerlineError
from steerline.home import storage_folder
from steerline.tracking.references import RunRef


@dataclass(frozen=True)
class Job:
    """One run, as every process that works on it knows it.

    Args:
        spec: the whole job.
        folder: where all of its files lie; shared by all nodes.
        run: where it is recorded; none records nowhere.
    """

    spec: FinetuneSpec
    folder: Path
    run: RunRef | None = None

    @classmethod
    def of(cls, spec: FinetuneSpec, run: RunRef | None = None) -> Job:
        """The job of a spec, in the folder that its name and storage path give."""
        return cls(spec, storage_folder(spec.cluster.storage_path) / run_name(spec), run)

    @property
    def name(self) -> str:
        """The run's name, by which it is resumed."""
        return run_name(self.spec)

    @property
    def config_hash(self) -> str:
        """Hash of what decides the result."""
        return identity_hash(self.spec)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def export(self) -> Path:
        """Folder of the exported model."""
        return self.folder / "export"

    @property
    def spool(self) -> Path:
        """Folder of what the tracking server has not taken yet."""
        return self.folder / "spool"

    @property
    def stop_request(self) -> Path:
        """A file whose presence asks the workers to save and end."""
        return self.folder / "stop-requested"


State = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended, as `outcome.json` in its folder says for programs.

    Args:
        run_name: the run.
        state: `finished`, `stopped` on request after saving, or `failed`.
        step: optimiser steps done.
        num_steps: optimiser steps of the whole run.
        metrics: each loss and accuracy, of the best step where there is one, else the last.
        files: paths by role: `export`, `evaluation`, `checkpoint`.
        evaluated_as: the evaluation's config, so that only a changed one is carried out again.
        registered_as: the name and alias under which the registry has the model, so that only others are registered.
        error: what went wrong, for people.
        exit_code: the job's.
        best_step: step whose weights are exported, where early stopping chose it.
        ended_because: why training ended before its last step, for people.
    """

    run_name: str
    state: State
    step: int = 0
    num_steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    evaluated_as: dict[str, Any] = field(default_factory=dict)
    registered_as: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    exit_code: int = 0
    best_step: int | None = None
    ended_because: str | None = None

    def save(self, folder: Path) -> None:
        """Write `outcome.json`, whole or not at all."""
        path = folder / "outcome.json"
        scratch = path.with_suffix(".partial")
        scratch.write_text(json.dumps(asdict(self), indent=1))
        scratch.replace(path)

    @classmethod
    def load(cls, folder: Path) -> Outcome | None:
        """What an earlier attempt left; none when none came to an end."""
        path = folder / "outcome.json"
        return cls(**json.loads(path.read_text())) if path.is_file() else None


@dataclass(frozen=True)
class Failure:
    """An error that every worker met at the same point: retrying would meet it again."""

    error: SteerlineError


def evaluation_config(spec: FinetuneSpec) -> dict[str, Any]:
    """The evaluation's config as JSON values."""
    return resolved(spec.evaluation)
