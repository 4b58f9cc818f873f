"""The machine: storage, disk, compiler."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from steerline.home import storage_folder
from steerline.orchestration.preflight.core import Finding, ModelScene, Scene, failure, gib, warning
from steerline.orchestration.preflight.memory import checkpoint_bytes, export_bytes


def storage(scene: ModelScene) -> Iterator[Finding]:
    """Checkpoints can be written."""
    path = scene.spec.cluster.storage_path
    if "://" in path:
        yield failure(
            "checkpoints are written through the file system",
            path="cluster.storage_path",
            got=path,
            expected="a folder; mount object storage, or a volume that all nodes share",
        )
        return
    nearest = _nearest_that_exists(path)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        what = "is not a folder" if not nearest.is_dir() else "cannot be written"
        yield failure(f"{nearest} {what}", path="cluster.storage_path", got=path, fix="name another folder")


def disk(scene: Scene) -> Iterator[Finding]:
    """Checkpoints and the export find room."""
    spec, model = scene.spec, scene.model
    total, trained = model.num_parameters, model.num_trained(spec.model.lora)
    if total is None or trained is None or "://" in spec.cluster.storage_path:
        return
    # One more than is kept: the new one is complete before the oldest goes.
    copies = spec.training.keep_checkpoints + 1
    each = checkpoint_bytes(total, trained, training=spec.training)
    needed = copies * each + export_bytes(total, training=spec.training)
    free = shutil.disk_usage(_nearest_that_exists(spec.cluster.storage_path)).free
    if needed > free:
        yield failure(
            "the disk has no room for the checkpoints",
            path="cluster.storage_path",
            got=f"{gib(free)} free",
            expected=f"{gib(needed)}: {copies} checkpoints of {gib(each)} and the exported model",
            fix="name a folder on a larger disk, or lower `training.keep_checkpoints`",
        )


def _nearest_that_exists(path: str) -> Path:
    absolute = storage_folder(path)
    return next(folder for folder in (absolute, *absolute.parents) if folder.exists())


def compiler(scene: Scene) -> Iterator[Finding]:
    """The kernels of a steering that runs on CPUs are built at first use."""
    steering = scene.spec.objective.steering
    if scene.spec.cluster.use_gpu or (steering.boost is None and steering.entropy is None):
        return
    command = scene.environment.get("CXX", "g++")
    if shutil.which(command, path=scene.environment.get("PATH", os.defpath)) is None:
        yield warning(
            "there is no C++ compiler, so steering runs without its kernels: same results, slower",
            got=f"no `{command}` on the PATH",
            fix="`apt install g++`, or set CXX",
        )


def gpu(scene: ModelScene) -> Iterator[Finding]:
    """A GPU, where no cluster says whether there is one."""
    if scene.spec.cluster.use_gpu and scene.cluster is None and shutil.which("nvidia-smi") is None:
        yield warning("no NVIDIA GPU was found on this machine", path="cluster.use_gpu", got="no `nvidia-smi`")
