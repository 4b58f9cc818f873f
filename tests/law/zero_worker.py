"""One of two workers that train a tiny model under each ZeRO stage, and what it saw."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from steerline.config.training import (
    ActivationCheckpointingSpec,
    ObjectiveSpec,
    OptimizerSpec,
    TrainingSpec,
    ZeroSpec,
)
from steerline.data.batch import collate
from steerline.data.sampler import GlobalSampler
from steerline.training.activation_checkpointing import enable_activation_checkpointing
from steerline.training.engine import Engine
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.sums import StepSums
from steerline.training.workers import Workers
from tests.law.conftest import OBJECTIVES, Picks, sample_rows
from tests.tiny import tiny_model

STEPS = 4
RESUMED = ("entropy", "bf16")
ROWS = sample_rows()
SAMPLER = GlobalSampler(len(ROWS), 4, seed=3)


def setups() -> Iterator[tuple[str, ObjectiveSpec, dict[str, Any]]]:
    """Name, objective and settings of each run."""
    for name, spec in OBJECTIVES.items():
        yield name, spec, {}
    yield "checkpointed", OBJECTIVES["entropy"], {"checkpointed": True}
    yield "clipped", OBJECTIVES["plain"], {"clip_norm": 0.05}
    yield "bf16", OBJECTIVES["entropy"], {"precision": "bf16", "clip_norm": 0.05}


def build(
    spec: ObjectiveSpec,
    stage: int,
    workers: Workers,
    *,
    checkpointed: bool = False,
    precision: str = "fp32",
    clip_norm: float | None = None,
    universal: bool = False,
) -> Engine:
    """An engine over a tiny model, two micro-batches of one row for each of two workers (four for one worker)."""
    model = tiny_model("gpt2", dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    objective = ObjectiveModel(model, spec, seed=1)
    training = TrainingSpec(
        num_steps=STEPS,
        micro_batch_size=1,
        global_batch_size=4,
        precision=precision,
        clip_norm=clip_norm,
        optimizer=OptimizerSpec(eps=1e-3),
    )
    enable_activation_checkpointing(model, ActivationCheckpointingSpec() if checkpointed else None)
    accumulation = 4 // workers.world_size
    return Engine(objective, training, ZeroSpec(stage=stage), workers, accumulation=accumulation, universal=universal)


def train(engine: Engine, workers: Workers, picks: Picks | None, steps: range) -> list[tuple[float, float]]:
    """Loss and gradient norm of each step."""
    seen = []
    for step in steps:
        shard = SAMPLER.shard(step, workers.rank, workers.world_size, 1)
        batches = [collate([ROWS[index] for index in indices], 0) for indices in shard]
        normaliser = Normaliser.over(batches, workers)
        outputs = []
        for number, batch in enumerate(batches):
            replayed = nullcontext() if picks is None else engine.objective.steering.replaying(picks.of(batch))
            with replayed:
                outputs.append(engine.forward_backward(batch, normaliser, last=number == len(batches) - 1))
        seen.append((StepSums(outputs, workers).loss, engine.step(1e-2)))
    return seen


def picks_for(spec: ObjectiveSpec) -> Picks | None:
    """The picks of the untrained model, for objectives that pick by rank."""
    return None if spec.steering.boost is None else Picks(ObjectiveModel(tiny_model("gpt2"), spec, seed=1), ROWS)


def run(rank: int, world_size: int, folder: Path) -> None:
    """Every set-up at every stage; worker 0 writes what it saw to `seen.pt`."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    torch.set_num_threads(1)
    # DeepSpeed collects garbage while it sets an engine up; what the imports left would be looked at each time.
    gc.freeze()
    store = dist.FileStore(str(folder / f"store-{world_size}"), world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    workers = Workers(rank, world_size)
    seen: dict[tuple[str, int], Any] = {}
    for name, spec, settings in setups():
        picks = picks_for(spec)
        # One worker partitions nothing; what else the stages do differently for it, two set-ups show.
        for stage in range(4 if world_size > 1 or name in RESUMED else 1):
            engine = build(spec, stage, workers, **settings)
            losses = train(engine, workers, picks, range(2))
            saved = folder / f"{name}-{stage}-of-{world_size}" / "shards"
            if name in RESUMED and world_size > 1:
                engine.save(saved)
            losses += train(engine, workers, picks, range(2, STEPS))
            weights = engine.state_dict()
            engine.close()
            seen[name, stage] = {"losses": losses, "weights": weights}
            if name in RESUMED and world_size > 1:
                resumed = build(spec, stage, workers, **settings)
                resumed.load(saved)
                seen[name, stage]["again"] = train(resumed, workers, picks, range(2, STEPS))
                resumed.close()
    if rank == 0:
        torch.save(seen, folder / f"seen-{world_size}.pt")
    # Everybody waits for what was seen to be on the disk, and leaves at once: threads of gloo that outlive the
    # interpreter abort it now and then ("terminate called without an active exception").
    dist.barrier()
    os._exit(0)
