"""Checkpoints: written whole or not at all, checked before they are used.

A checkpoint is the folder `step-NNNNNN`: the shards of the engine and the random state of each worker, `state.json`,
and `manifest.json` with the size and SHA-256 of every file. It is written as `step-NNNNNN.partial` and renamed when all
of it is on the disk, so a folder without `.partial` was complete once.

Trust: shards are pickles, because DeepSpeed's are; loading one can run code. The manifest is verified before any shard
is opened, which catches damage, not malice: whoever can write the folder can write the manifest too.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from steerline.errors import CheckpointError
from steerline.training.manifest import check_manifest, digests_of, sync, write_manifest
from steerline.training.workers import Workers

SHARDS = "shards"
_STATE = "state.json"
_PARTIAL = ".partial"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """One complete checkpoint.

    Args:
        folder: where it is.
        state: what `state.json` says: `step`, `samples_seen`, `world_size` and the rest.
    """

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return int(self.state["step"])

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file by relative path."""
        return digests_of(self.folder)

    def rng(self, rank: int) -> torch.Tensor | None:
        """The random state of a worker, uint8; None for a worker that did not exist."""
        path = self.folder / f"rng-rank-{rank}.pt"
        if not path.exists():
            return None
        state: torch.Tensor = torch.load(path, weights_only=True)
        return state


@dataclass(frozen=True)
class Rejected:
    """A checkpoint that is not used, and why."""

    folder: Path
    reason: str

    def __str__(self) -> str:
        return f"checkpoint {self.folder.name} is not used: {self.reason}"


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: where they lie; shared by all workers.
        keep: how many are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first; not yet verified."""
        if not self.folder.is_dir():
            return []
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in names if match)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step:06d}"

    def save(
        self,
        state: dict[str, Any],
        write_shards: Callable[[Path], None],
        workers: Workers,
        *,
        best: int | None = None,
    ) -> Checkpoint:
        """Write a checkpoint; every worker calls this.

        Args:
            state: becomes `state.json`; holds `step`.
            write_shards: writes this worker's shards into the folder it is given; may communicate.
            workers: all of them.
            best: step of the checkpoint that is kept however old it is.

        Raises:
            CheckpointError: it could not be written. Earlier checkpoints are untouched, the partial one is gone.
        """
        final = self.path(int(state["step"]))
        partial = final.with_name(final.name + _PARTIAL)
        try:
            if workers.is_first:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            workers.barrier()
            write_shards(partial / SHARDS)
            torch.save(torch.get_rng_state(), partial / f"rng-rank-{workers.rank}.pt")
            workers.barrier()
            if workers.is_first:
                _complete(partial, final, state)
        except (OSError, RuntimeError) as error:
            # torch.save reports a full disk as a RuntimeError of its zip writer.
            shutil.rmtree(partial, ignore_errors=True)
            raise self._unwritten(final, error) from error
        workers.barrier()
        if workers.is_first:
            self.prune(best)
        return Checkpoint(final, state)

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of a step.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        folder = self.path(step)
        reason = check_manifest(folder) if folder.is_dir() else "it is missing"
        if reason is not None:
            raise CheckpointError(
                f"{folder.name} cannot be used",
                where=str(folder),
                got=reason,
                fix="put it back from a copy, or train under another `name`",
            )
        return Checkpoint(folder, json.loads((folder / _STATE).read_text()))

    def latest_valid(self) -> tuple[Checkpoint | None, list[Rejected]]:
        """The newest checkpoint whose every byte is as it was written, and the newer ones that are not."""
        rejected: list[Rejected] = []
        for step in reversed(self.steps()):
            folder = self.path(step)
            reason = check_manifest(folder)
            if reason is None:
                return Checkpoint(folder, json.loads((folder / _STATE).read_text())), rejected
            rejected.append(Rejected(folder, reason))
        return None, rejected

    def prune(self, best: int | None = None) -> None:
        """Remove all but the newest `keep` and that of step `best`, and what was derived from the removed ones."""
        for step in self.steps()[: -self.keep]:
            if step == best:
                continue
            for path in self.folder.glob(f"{self.path(step).name}*"):
                shutil.rmtree(path)

    def _unwritten(self, final: Path, error: Exception) -> CheckpointError:
        free = shutil.disk_usage(self.folder).free if self.folder.exists() else 0
        good = self.steps()
        return CheckpointError(
            f"{final.name} could not be written; earlier checkpoints are untouched",
            where=str(final.parent),
            got=f"{error} ({free / 2**20:.0f} MiB free)",
            fix=f"make room and submit again; it resumes from step {good[-1]}"
            if good
            else "make room and submit again; there is no earlier checkpoint",
        )


def _complete(partial: Path, final: Path, state: dict[str, Any]) -> None:
    (partial / _STATE).write_text(json.dumps(state, indent=1))
    write_manifest(partial)
    if final.exists():
        # The step was repeated after this checkpoint was rejected.
        shutil.rmtree(final)
    partial.rename(final)
    sync(final.parent)
