"""Everything a worker needs before the first step: model, data, engine, and the checkpoint to go on from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steerline import __version__
from steerline.data.dataset import TokenDataset, build
from steerline.data.isolation import verify_isolation
from steerline.data.load import texts_of
from steerline.data.sampler import GlobalSampler
from steerline.errors import CheckpointError
from steerline.models.load import LoadedModel, load_model
from steerline.models.lora import add_lora
from steerline.models.proof import prove_untried
from steerline.training.activation_checkpointing import enable_activation_checkpointing
from steerline.training.balance import find_balance
from steerline.training.checkpoint import SHARDS, Checkpoint, CheckpointStore
from steerline.training.engine import Engine, partitioned_loading
from steerline.training.job import Job
from steerline.training.loop import Course
from steerline.training.objective import ObjectiveModel
from steerline.training.universal import universal_shards
from steerline.training.workers import Workers


@dataclass(frozen=True)
class Materials:
    """What can be made without other workers.

    Args:
        objective: the wrapped model, not yet partitioned.
        tokenizer: the model's.
        train: training rows.
        heldout: held-out rows; none when there are none.
        course: the order of rows, and how many steps.
    """

    objective: ObjectiveModel
    tokenizer: PreTrainedTokenizerBase
    train: TokenDataset
    heldout: TokenDataset | None
    course: Course


def dtype_of(job: Job) -> torch.dtype:
    """Precision of the forward pass."""
    return torch.bfloat16 if job.spec.training.precision == "bf16" else torch.float32


def load_untrained(job: Job) -> LoadedModel:
    """The model that the job starts from, in the precision of training, with its tokenizer.

    Raises:
        ModelError, DataError: either cannot be loaded or made as the config says.
    """
    spec = job.spec
    return load_model(
        spec.model,
        dtype=dtype_of(job),
        classes=spec.classes,
        texts=lambda: texts_of(spec.data.train),
        seed=spec.seed,
    )


def _load_objective(job: Job) -> tuple[ObjectiveModel, PreTrainedTokenizerBase]:
    spec = job.spec
    partitioned = spec.zero.stage == 3 and (spec.zero.offload_parameters or spec.cluster.use_gpu)
    with partitioned_loading(spec.training, spec.zero) if partitioned else nullcontext():
        loaded = load_untrained(job)
    model: PreTrainedModel = loaded.model
    if not partitioned and spec.model.attention != "flash_attention_2":
        # Neither a flash kernel (GPUs only) nor a partitioned model can run at this point.
        prove_untried(model, spec.model.sites)
        if spec.data.packing:
            verify_isolation(model)
    enable_activation_checkpointing(model, spec.training.activation_checkpointing)
    if spec.model.lora is not None:
        model = add_lora(model, spec.model.lora, seed=spec.seed)
    return ObjectiveModel(model, spec.objective, seed=spec.seed, sites=spec.model.sites), loaded.tokenizer


def gather_materials(job: Job) -> Materials:
    """Load the model and the data.

    Raises:
        ModelError, DataError: either cannot be loaded as the config says, or the model would let the examples of a
            packed row see each other.
    """
    spec = job.spec
    objective, tokenizer = _load_objective(job)
    train = build(spec.data.train, spec.data, tokenizer, spec.seed)
    heldout = build(spec.data.heldout, spec.data, tokenizer, spec.seed) if spec.data.heldout else None
    sampler = GlobalSampler(len(train), spec.training.global_batch_size, spec.seed, train.lengths)
    steps = spec.training.num_steps
    if steps is None:
        assert spec.training.num_epochs is not None
        steps = sampler.num_steps(spec.training.num_epochs)
    course = Course(train, heldout.rows if heldout else (), sampler, steps, tokenizer.pad_token_id, spec.seed)
    return Materials(objective, tokenizer, train, heldout, course)


def back_at(
    step: int, job: Job, materials: Materials, store: CheckpointStore, workers: Workers
) -> tuple[Materials, Engine]:
    """The run as it was after `step`, from that step's checkpoint: a new model and a new engine. All workers call this.

    Going back is a new start because the checkpoint may have been written by another number of workers. Close the
    engine that stands elsewhere before.

    Raises:
        CheckpointError: on every worker, when the checkpoint is missing or damaged.
    """
    checkpoint, error = None, None
    if workers.is_first:
        try:
            checkpoint = store.at(step)
        except CheckpointError as found:
            error = found
    failed = workers.first_error(error)
    if failed is not None:
        raise failed
    objective, _ = _load_objective(job)
    fresh = replace(materials, objective=objective)
    return fresh, _engine_at(workers.from_first(checkpoint), job, fresh, workers)


def state_identity(job: Job, materials: Materials) -> dict[str, Any]:
    """What a checkpoint says about the run it belongs to, apart from how far it is."""
    sampler = materials.course.sampler
    return {
        "config_hash": job.config_hash,
        "zero_stage": job.spec.zero.stage,
        "precision": job.spec.training.precision,
        "sampler": {
            "num_rows": sampler.num_rows,
            "global_batch_size": sampler.global_batch_size,
            "seed": sampler.seed,
            "data_sha256": materials.train.digest,
        },
        "objective": job.spec.objective.model_dump(mode="json"),
        "objective_state": materials.objective.state(),
        "versions": {
            "steerline": __version__,
            **{name: version(name) for name in ("torch", "deepspeed", "transformers")},
        },
    }


def build_engine(
    job: Job, materials: Materials, store: CheckpointStore, workers: Workers, say: Callable[[str], None]
) -> tuple[Engine, Checkpoint | None]:
    """The engine, standing where the newest intact checkpoint left off. Every worker calls this.

    Worker 0 says which checkpoints are not used, and why.

    Raises:
        CheckpointError: the checkpoint is of other data, or cannot be converted to this number of workers.
    """
    checkpoint, rejected = workers.from_first(store.latest_valid() if workers.is_first else (None, []))
    if workers.is_first:
        for one in rejected:
            say(f"steerline: {one}")
        if checkpoint is not None:
            say(f"steerline: resuming from {checkpoint.folder.name}")
    return _engine_at(checkpoint, job, materials, workers), checkpoint


def _engine_at(checkpoint: Checkpoint | None, job: Job, materials: Materials, workers: Workers) -> Engine:
    spec = job.spec
    shards = None if checkpoint is None else checkpoint.folder / SHARDS
    universal = False
    if checkpoint is not None:
        _check_data(checkpoint, state_identity(job, materials))
        universal = spec.zero.stage > 0 and checkpoint.state["world_size"] != workers.world_size
        if universal:
            shards = _convert_once(checkpoint, spec.zero.stage, workers)
    _prepare_objective(checkpoint, job, materials, workers)
    share = materials.course.sampler.shard(0, workers.rank, workers.world_size, spec.training.micro_batch_size)
    engine = Engine(
        materials.objective, spec.training, spec.zero, workers, accumulation=len(share), universal=universal
    )
    if shards is not None:
        engine.load(shards)
    return engine


def _prepare_objective(checkpoint: Checkpoint | None, job: Job, materials: Materials, workers: Workers) -> None:
    """The objective's state from the checkpoint; from the first batch where the run begins and terms are balanced."""
    objective, balance = materials.objective, job.spec.objective.balance
    if checkpoint is not None:
        objective.load_state(checkpoint.state["objective_state"])
    elif balance is not None:
        torch.manual_seed(job.spec.seed)
        batches = materials.course.micro_batches(0, workers, job.spec.training.micro_batch_size)
        objective.balance = find_balance(objective, balance, batches, workers)


def _convert_once(checkpoint: Checkpoint, stage: int, workers: Workers) -> Any:
    shards, error = None, None
    if workers.is_first:
        try:
            shards = universal_shards(checkpoint, stage)
        except CheckpointError as found:
            error = found
    failed = workers.first_error(error)
    if failed is not None:
        raise failed
    return workers.from_first(shards)


def _check_data(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    saved, now = checkpoint.state["sampler"], identity["sampler"]
    if saved != now:
        raise CheckpointError(
            "the training data are not those that this checkpoint was trained on, though the config is the same",
            where=str(checkpoint.folder),
            got=f"{now['num_rows']} rows with SHA-256 {now['data_sha256'][:12]}",
            expected=f"{saved['num_rows']} rows with SHA-256 {saved['data_sha256'][:12]}",
            fix="put the data back as they were, or train under another `name`",
        )
