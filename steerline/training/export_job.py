"""Export the model of a run that lies in a folder: the finished one, or that of its newest intact checkpoint."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from steerline.config.finetune import FinetuneSpec
from steerline.errors import CheckpointError
from steerline.models.export import check_manifest, export_model
from steerline.training.checkpoint import CheckpointStore
from steerline.training.finishing import card
from steerline.training.job import Job
from steerline.training.setup import build_engine, gather_materials
from steerline.training.workers import Workers

logger = logging.getLogger(__name__)


def export_run(run_folder: Path, out: Path) -> None:
    """Write a Hugging Face folder.

    Args:
        run_folder: a run's folder.
        out: must not exist.

    Raises:
        CheckpointError: the folder is no run's, or holds neither an export nor an intact checkpoint.
        ModelError: `out` exists, or the export there is damaged.
    """
    config = run_folder / "config.resolved.json"
    if not config.is_file():
        raise CheckpointError("this is not the folder of a run", where=str(run_folder), expected=config.name)
    job = Job(FinetuneSpec.model_validate_json(config.read_text()), run_folder)
    if job.export.is_dir() and not out.exists():
        check_manifest(job.export)
        shutil.copytree(job.export, out)
        return
    _export_checkpoint(job, out)


def _export_checkpoint(job: Job, out: Path) -> None:
    store = CheckpointStore(job.checkpoints)
    found, rejected = store.latest_valid()
    if found is None:
        raise CheckpointError(
            "the run has no intact checkpoint to export",
            where=str(store.folder),
            got="; ".join(map(str, rejected)) or "none",
        )
    materials = gather_materials(job)
    with _alone():
        engine, _ = build_engine(job, materials, store, Workers(), logger.info)
        about = card(job, materials, found.step)
        export_model(engine.state_dict(), materials.objective.model, materials.tokenizer, out, about)
        engine.close()


@contextmanager
def _alone() -> Iterator[None]:
    """A process group of this process alone, which DeepSpeed asks for."""
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ.update(place)
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
        for name in place:
            del os.environ[name]
