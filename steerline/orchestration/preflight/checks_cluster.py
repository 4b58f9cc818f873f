"""The cluster: can it ever hold the workers, and does the model's state fit?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from steerline.orchestration.preflight.core import Finding, ModelScene, Scene, failure, gib, warning
from steerline.orchestration.preflight.memory import state_bytes
from steerline.orchestration.preflight.resources import WITHOUT_BF16, NodeResources

_NEARLY_FULL = 0.8


def capacity(scene: ModelScene) -> Iterator[Finding]:
    """All workers can run at once."""
    wanted, cluster = scene.spec.cluster, scene.cluster
    if cluster is None:
        return
    fits = sum(node.num_workers(wanted.cpus_per_worker, wanted.use_gpu) for node in cluster.nodes)
    if fits >= wanted.num_workers:
        return
    each = f"{wanted.cpus_per_worker:g} CPUs" + (" and 1 GPU" if wanted.use_gpu else "")
    make = warning if cluster.can_grow else failure
    yield make(
        f"the cluster has room for {fits} of {wanted.num_workers} workers" + (" now" if cluster.can_grow else ""),
        path="cluster.num_workers",
        got="; ".join(_describe(node) for node in cluster.nodes) or "no nodes",
        expected=f"{wanted.num_workers} workers, each with {each} on one node",
        fix=_smaller(scene, fits) if not cluster.can_grow else None,
    )


def _smaller(scene: ModelScene, fits: int) -> str:
    if not isinstance(scene, Scene):
        return "lower `cluster.cpus_per_worker`, or add nodes"
    training = scene.spec.training
    micro_batches = training.global_batch_size // training.micro_batch_size
    works = [workers for workers in range(1, fits + 1) if micro_batches % workers == 0]
    fewer = f"set `cluster.num_workers: {works[-1]}`, or " if works else ""
    return f"{fewer}lower `cluster.cpus_per_worker`, or add nodes"


def _describe(node: NodeResources) -> str:
    gpus = f", {node.gpus:g} {node.gpu_type or ''} GPUs".replace("  ", " ") if node.gpus else ""
    return f"{node.name}: {node.cpus:g} CPUs{gpus}"


def shared_storage(scene: Scene) -> Iterator[Finding]:
    """Several nodes write into one folder."""
    wanted, cluster = scene.spec.cluster, scene.cluster
    if cluster is None or wanted.num_workers == 1 or len(cluster.nodes) < 2:
        return
    absolute = Path(wanted.storage_path).is_absolute()
    yield warning(
        "workers may run on several nodes, and all of them write into the storage folder",
        path="cluster.storage_path",
        got=wanted.storage_path + ("" if absolute else " (relative: another folder on each node)"),
        expected="an absolute path on a volume that all nodes share",
    )


def gpus(scene: Scene) -> Iterator[Finding]:
    """GPUs that are not used, or cannot do bf16."""
    spec, cluster = scene.spec, scene.cluster
    if cluster is None:
        return
    if cluster.gpus and not spec.cluster.use_gpu:
        yield warning(
            f"the cluster has {cluster.gpus:g} GPUs, and the job uses none",
            path="cluster.use_gpu",
            fix="set `cluster.use_gpu: true`",
        )
    old = sorted({node.gpu_type for node in cluster.nodes if node.gpu_type in WITHOUT_BF16})
    if spec.cluster.use_gpu and spec.training.precision == "bf16" and old:
        yield warning(
            "these GPUs have no bf16 arithmetic and emulate it slowly",
            path="training.precision",
            got=", ".join(str(name) for name in old),
            fix="set `training.precision: fp32`",
        )


def memory(scene: Scene) -> Iterator[Finding]:
    """Weights, gradients and optimiser state fit. A lower bound: activations come on top."""
    spec, cluster = scene.spec, scene.cluster
    total, trained = scene.model.num_parameters, scene.model.num_trained(spec.model.lora)
    if cluster is None or total is None or trained is None:
        return
    workers = spec.cluster.num_workers
    state = state_bytes(total, trained, zero=spec.zero, training=spec.training, num_workers=workers)
    formula = f"{total / 1e6:.0f}M parameters, {trained / 1e6:.0f}M trained, ZeRO {spec.zero.stage}, {workers} workers"
    if spec.cluster.use_gpu:
        sizes = [node.gpu_memory_bytes for node in cluster.nodes if node.gpus]
        known = [size for size in sizes if size is not None]
        if sizes and len(known) == len(sizes):
            yield from _fits(state.device, max(known), "a GPU", formula, fatal=True)
        per_worker = state.host
    else:
        per_worker = state.device + state.host
    memories = [node.memory_bytes for node in cluster.nodes if node.memory_bytes is not None]
    if memories and len(memories) == len(cluster.nodes):
        # What Ray gives out is less than what a node has, so this cannot be the last word.
        yield from _fits(per_worker * workers, sum(memories), "the memory of all nodes", formula, fatal=False)


def _fits(needed: float, available: float, what: str, formula: str, *, fatal: bool) -> Iterator[Finding]:
    if needed <= _NEARLY_FULL * available:
        return
    make = failure if fatal and needed > available else warning
    yield make(
        f"the model's state does not fit into {what}"
        if needed > available
        else f"the model's state nearly fills {what}",
        path="zero.stage",
        got=f"{gib(needed)} of {gib(available)}, before activations ({formula})",
        fix="raise `zero.stage` or `cluster.num_workers`, offload, or train adapters with `model.lora`",
    )
