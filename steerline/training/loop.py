"""The step loop."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from steerline.config.training import TrainingSpec
from steerline.data.batch import Batch, Row, collate
from steerline.data.sampler import GlobalSampler
from steerline.errors import NonFiniteLossError
from steerline.training.checkpoint import Checkpoint, CheckpointStore
from steerline.training.early_stopping import EarlyStopping
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

    def looks_after(self, done: int, spec: TrainingSpec) -> bool:
        """Whether the held-out rows are looked at after `done` steps."""
        if done == self.num_steps:
            return True
        if spec.heldout_every_steps is not None:
            return done % spec.heldout_every_steps == 0
        if spec.heldout_every_epochs is None:
            return False
        # A look is due after the step that takes the last row of a pass (or of so many passes).
        rows_per_look = spec.heldout_every_epochs * self.sampler.num_rows
        looks = (math.floor(round(n * self.sampler.global_batch_size / rows_per_look, 9)) for n in (done - 1, done))
        return next(looks) != next(looks)


@dataclass(frozen=True)
class Ending:
    """How a run of the loop ended.

    Args:
        step: optimiser steps done; the checkpoint of the last one exists.
        reason: `last_step`, `early_stopping`, or `asked` to stop.
        early_stopping: where its count stands; none without it.
    """

    step: int
    reason: Literal["last_step", "early_stopping", "asked"]
    early_stopping: EarlyStopping | None = None

    @property
    def chosen(self) -> int:
        """The step whose weights are exported: the best one under early stopping, else the last."""
        best = None if self.early_stopping is None else self.early_stopping.best_step
        return self.step if best is None else best

    @property
    def why(self) -> str | None:
        """Why it ended before the last step, for people; none where held-out data did not end it."""
        return self.early_stopping.reason if self.early_stopping and self.reason == "early_stopping" else None


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
        self._early: EarlyStopping | None = None

    def run(self, checkpoint: Checkpoint | None = None) -> Ending:
        """Go from the checkpoint, or the beginning, to the end. The weights are the engine's to load.

        Returns:
            All steps, or fewer when held-out data showed no gain, or when asked to stop. The last one is saved in each
            case, and the best one under early stopping.

        Raises:
            NonFiniteLossError: on every worker, before the weights are touched.
            CheckpointError: a checkpoint could not be written.
            TrainingError: early stopping follows a metric that is not measured.
        """
        spec, num_steps = self._spec, self._course.num_steps
        first = self._begin(checkpoint)
        if self._has_ended():
            return Ending(first, "early_stopping", self._early)
        for step in range(first, num_steps):
            self._train_step(step)
            done = step + 1
            last = done == num_steps
            improved = self._course.looks_after(done, spec) and self._look(done)
            ended = self._has_ended()
            leaving = self._leaving()
            stopping = self._workers.from_first(self._stopping() if self._workers.is_first else False)
            if last or improved or ended or stopping or leaving or done % spec.save_every_steps == 0:
                self._save(done)
            if ended and not last:
                return Ending(done, "early_stopping", self._early)
            if stopping and not last:
                return Ending(done, "asked", self._early)
        return Ending(num_steps, "last_step", self._early)

    def _begin(self, checkpoint: Checkpoint | None) -> int:
        """Take up the random state and the count, or look for the first time. Returns the steps done."""
        wanted = self._spec.early_stopping
        if checkpoint is None:
            self._early = EarlyStopping(wanted) if wanted is not None else None
            self._look(0)
            return 0
        if wanted is not None:
            self._early = EarlyStopping.resumed(wanted, checkpoint.state.get("early_stopping"))
        state = checkpoint.rng(self._workers.rank)
        if state is not None:
            torch.set_rng_state(state)
        return checkpoint.step

    def _has_ended(self) -> bool:
        return self._early is not None and self._early.has_ended

    def _train_step(self, step: int) -> None:
        start = time.perf_counter()
        spec, workers, engine = self._spec, self._workers, self._engine
        # Dropout depends on where in the run we are, not on how we came here.
        torch.manual_seed(((self._course.seed * 1_000_003 + step) * 1_000_003 + workers.rank) % 2**63)
        sampler = self._course.sampler
        epoch = step * sampler.global_batch_size // sampler.num_rows
        engine.objective.start_step(step, epoch, self._course.num_steps)
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

    def _look(self, step: int) -> bool:
        """Measure the held-out rows. Returns whether the run is at its best; the untrained model does not count."""
        if not self._heldout:
            return False
        normaliser = Normaliser.over(self._heldout, self._workers)
        sums = StepSums([self._engine.evaluate(batch, normaliser) for batch in self._heldout], self._workers)
        # Every worker counts alike, so all of them go by the numbers of one.
        values = self._workers.from_first(sums.metrics("heldout"))
        if self._early is not None:
            if step == 0:
                self._early.check(values)
            else:
                self._early = self._early.after(step, values)
                values = values | {"heldout/best_step": float(self._early.best_step or 0)}
        if self._workers.is_first:
            self._observe(values, step)
        return self._early is not None and step > 0 and self._early.best_step == step

    def _save(self, step: int) -> None:
        state = self._identity | {
            "step": step,
            "samples_seen": step * self._course.sampler.global_batch_size,
            "world_size": self._workers.world_size,
        }
        if self._early is not None:
            state["early_stopping"] = self._early.state()
        best = None if self._early is None else self._early.best_step
        checkpoint = self._store.save(state, self._engine.save, self._workers, best=best)
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
