"""The step loop."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from steerline.config.training import TrainingSpec
from steerline.data.batch import Batch, Row, collate
from steerline.data.sampler import GlobalSampler
from steerline.errors import NonFiniteLossError
from steerline.training.checkpoint import Checkpoint, CheckpointStore
from steerline.training.engine import Engine
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveOutput
from steerline.training.optimizer import learning_rate
from steerline.training.sums import StepSums
from steerline.training.workers import Workers


class Rows(Protocol):
    """Rows by index, as `TokenDataset` has them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Row: ...


Observer = Callable[[Mapping[str, float], int], None]
"""Who is told of the metrics of a step; called on worker 0 alone."""


@dataclass(frozen=True)
class Course:
    """What a run goes through: its data in order, and how long.

    Args:
        rows: training rows.
        heldout: rows whose loss is followed; may be empty.
        sampler: which rows each step sees.
        num_steps: optimiser steps.
        pad_id: token that fills rows up.
        seed: seed of dropout.
    """

    rows: Rows
    heldout: Rows
    sampler: GlobalSampler
    num_steps: int
    pad_id: int
    seed: int

    def micro_batches(self, step: int, workers: Workers, micro_batch_size: int) -> list[Batch]:
        """This worker's micro-batches of an optimiser step."""
        shard = self.sampler.shard(step, workers.rank, workers.world_size, micro_batch_size)
        return [collate([self.rows[index] for index in indices], self.pad_id) for indices in shard]

    def heldout_batches(self, workers: Workers, micro_batch_size: int) -> list[Batch]:
        """This worker's share of the held-out rows; every worker has as many batches."""
        stride = workers.world_size * micro_batch_size
        starts = range(0, len(self.heldout), stride)
        mine = [
            range(start + workers.rank, min(start + stride, len(self.heldout)), workers.world_size) for start in starts
        ]
        return [collate([self.heldout[index] for index in indices], self.pad_id) for indices in mine]


class Loop:
    """Trains from wherever the engine stands to the last step.

    Args:
        engine: holds the weights.
        course: the data.
        spec: when to log, look and save.
        workers: all of them.
        store: where checkpoints go.
        identity: further entries of a checkpoint's `state.json`.
        observe: told of metrics.
        leaving: asked after every step, on all workers: true to save now because this place is about to go away.
        stopping: asked after every step, on worker 0: true to save and end.
        saved: told of each checkpoint, on worker 0.
    """

    def __init__(
        self,
        engine: Engine,
        course: Course,
        spec: TrainingSpec,
        workers: Workers,
        store: CheckpointStore,
        *,
        identity: Mapping[str, Any],
        observe: Observer,
        leaving: Callable[[], bool] = lambda: False,
        stopping: Callable[[], bool] = lambda: False,
        saved: Callable[[Checkpoint], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._course = course
        self._spec = spec
        self._workers = workers
        self._store = store
        self._identity = dict(identity)
        self._observe = observe
        self._leaving = leaving
        self._stopping = stopping
        self._saved = saved
        self._heldout = course.heldout_batches(workers, spec.micro_batch_size)

    def run(self, checkpoint: Checkpoint | None = None) -> int:
        """Go from the checkpoint, or the beginning, to the end. The weights are the engine's to load.

        Returns:
            Optimiser steps done: all of them, or fewer when asked to stop; either way the last is saved.

        Raises:
            NonFiniteLossError: on every worker, before the weights are touched.
            CheckpointError: a checkpoint could not be written.
        """
        spec, num_steps = self._spec, self._course.num_steps
        first = 0 if checkpoint is None else checkpoint.step
        if checkpoint is None:
            self._look(0)
        else:
            state = checkpoint.rng(self._workers.rank)
            if state is not None:
                torch.set_rng_state(state)
        for step in range(first, num_steps):
            self._train_step(step)
            done = step + 1
            last, every = done == num_steps, spec.heldout_every_steps
            if last or (every is not None and done % every == 0):
                self._look(done)
            leaving = self._leaving()
            stopping = self._workers.from_first(self._stopping() if self._workers.is_first else False)
            if last or stopping or leaving or done % spec.save_every_steps == 0:
                self._save(done)
            if stopping:
                return done
        return num_steps

    def _train_step(self, step: int) -> None:
        start = time.perf_counter()
        spec, workers, engine = self._spec, self._workers, self._engine
        # Dropout depends on where in the run we are, not on how we came here.
        torch.manual_seed(((self._course.seed * 1_000_003 + step) * 1_000_003 + workers.rank) % 2**63)
        engine.objective.start_step(step)
        batches = self._course.micro_batches(step, workers, spec.micro_batch_size)
        normaliser = Normaliser.over(batches, workers)
        logged = (step + 1) % spec.log_every_steps == 0 or step + 1 == self._course.num_steps
        outputs = []
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            outputs.append(engine.forward_backward(batch, normaliser, last=last, measure=logged and last))
        sums = StepSums(outputs, workers)
        if not sums.is_finite:
            raise self._nonfinite(step, sums.loss, batches, outputs)
        rate = learning_rate(spec.optimizer, spec.schedule, step, self._course.num_steps)
        norm = engine.step(rate)
        if not math.isfinite(norm):
            raise self._nonfinite(step, norm, batches, outputs, what="gradient")
        if logged and workers.is_first:
            seconds = time.perf_counter() - start
            values = sums.metrics("train") | {
                "train/grad_norm": norm,
                "train/learning_rate": rate,
                "train/tokens_per_s": normaliser.tokens / seconds,
                "train/samples_per_s": normaliser.rows / seconds,
                "train/step_time_s": seconds,
                "train/memory_gib": _memory_gib(engine.device),
            }
            self._observe(values, step + 1)

    def _look(self, step: int) -> None:
        if not self._heldout:
            return
        normaliser = Normaliser.over(self._heldout, self._workers)
        sums = StepSums([self._engine.evaluate(batch, normaliser) for batch in self._heldout], self._workers)
        if self._workers.is_first:
            self._observe(sums.metrics("heldout"), step)

    def _save(self, step: int) -> None:
        state = self._identity | {
            "step": step,
            "samples_seen": step * self._course.sampler.global_batch_size,
            "world_size": self._workers.world_size,
        }
        checkpoint = self._store.save(state, self._engine.save, self._workers)
        if self._workers.is_first:
            self._saved(checkpoint)

    def _nonfinite(
        self, step: int, value: float, batches: Sequence[Batch], outputs: Sequence[ObjectiveOutput], what: str = "loss"
    ) -> NonFiniteLossError:
        bad = [
            batch
            for batch, output in zip(batches, outputs, strict=True)
            if not bool(torch.isfinite(output.total)) or what == "gradient"
        ]
        mine = [name for batch in bad for row in batch.sample_ids for name in row]
        ids = [name for part in self._workers.gather(mine) for name in part]
        good = self._store.steps()
        return NonFiniteLossError(
            f"the {what} became {value} in step {step + 1}",
            where=f"samples {', '.join(ids)}",
            got=value,
            expected="a finite number",
            fix=f"the last good checkpoint is {self._store.path(good[-1])}; look at these samples, or lower "
            "`training.optimizer.learning_rate`"
            if good
            else "there is no checkpoint yet; look at these samples, or lower `training.optimizer.learning_rate`",
        )


def _memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
