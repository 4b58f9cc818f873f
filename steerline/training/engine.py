"""DeepSpeed behind a small face: forward, backward, step, save, load, gather. The only importer of deepspeed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.zero.partition_parameters import is_zero_param
from torch import Tensor, nn
from transformers.integrations import HfDeepSpeedConfig

from steerline.config.training import TrainingSpec, ZeroSpec
from steerline.data.batch import Batch
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel, ObjectiveOutput
from steerline.training.optimizer import MasterAdamW, adamw, parameter_groups
from steerline.training.workers import Workers
from steerline.training.zero import deepspeed_config

logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
# On CPUs DeepSpeed would compile a collective that only its inference uses when it starts, a minute's work for a C++
# compiler, unless this table says that it cannot. Training here uses none of the table's operators.
deepspeed.ops.__compatible_ops__ = {}


@contextmanager
def partitioned_loading(training: TrainingSpec, zero: ZeroSpec) -> Iterator[None]:
    """Inside, a model that Transformers loads is partitioned over the workers weight by weight (stage 3).

    No worker ever holds it whole. Torch's process group must exist; every worker loads the same model.
    """
    deepspeed.init_distributed(auto_mpi_discovery=False)
    # Transformers asks whether one is alive.
    alive = HfDeepSpeedConfig(deepspeed_config(zero, training, accumulation=1))
    yield
    del alive


class Engine:
    """An objective under DeepSpeed ZeRO, with AdamW.

    The gradient that is stepped with is that of the sum of all micro-batches' totals over all workers. DeepSpeed would
    divide the loss by the accumulation steps and average gradients over the workers: the first is switched off
    (`scale_wrt_gas=False`), the second undone by multiplying the loss with the world size before the backward pass.
    That product is made even for one worker: given the very tensor that forward returned, some stages of DeepSpeed 0.19
    divide by the accumulation steps all the same, in a hook on that tensor.

    Args:
        objective: the wrapped model, float32 or bf16 as `training.precision` says; moved to the device.
        training: precision, optimiser, clipping.
        zero: the stage.
        workers: all of them; torch's process group must exist.
        accumulation: micro-batches of one worker per optimiser step.
        universal: `load` will be given a universal checkpoint.
    """

    def __init__(
        self,
        objective: ObjectiveModel,
        training: TrainingSpec,
        zero: ZeroSpec,
        workers: Workers,
        *,
        accumulation: int,
        universal: bool = False,
    ) -> None:
        self.objective = objective
        self._workers = workers
        self._clip_norm = training.clip_norm
        self._stage = zero.stage
        self._has_frozen = any(not parameter.requires_grad for parameter in objective.parameters())
        config = deepspeed_config(
            zero, training, accumulation=accumulation, universal=universal, overlap=workers.device.type == "cuda"
        )
        if not any(is_zero_param(parameter) for parameter in objective.parameters()):
            objective.to(workers.device)
        groups = parameter_groups(((p, _num_dimensions(p)) for p in objective.parameters()), training.optimizer)
        masters_needed = zero.stage == 0 and training.precision == "bf16"
        optimizer = (MasterAdamW if masters_needed else adamw)(groups, training.optimizer)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(model=objective, optimizer=optimizer, config=config)
        # One worker has nothing to reduce, but the first two would flatten all gradients and copy them back at the end
        # of each step, and stage 2 would do as much after every micro-batch.
        alone = workers.world_size == 1
        if alone and (zero.stage == 0 or isinstance(self._optimizer, BF16_Optimizer)):
            self._engine.enable_backward_allreduce = False
        self._reduces_once = alone and zero.stage == 2
        self._step_scope = ExitStack()
        self._in_step = False
        self._engine.train()

    @property
    def device(self) -> torch.device:
        """Where batches must be."""
        return self._workers.device

    def forward_backward(
        self, batch: Batch, normaliser: Normaliser, *, last: bool, measure: bool = False
    ) -> ObjectiveOutput:
        """One micro-batch: the loss, and its gradient added to the step's.

        Args:
            batch: on any device.
            normaliser: the counts of the whole optimiser step.
            last: no further micro-batch follows in this step.
            measure: also measure the key entropy of every layer.
        """
        if self._reduces_once and not self._in_step:
            self._step_scope.enter_context(self._engine.coalesce_grad_reduction())
        self._in_step = True
        self._engine.set_gradient_accumulation_boundary(last)
        output: ObjectiveOutput = self._engine(batch.to(self.device), normaliser, measure=measure)
        self._engine.backward(output.total * self._workers.world_size, scale_wrt_gas=False)
        if last:
            self._step_scope.close()
            self._in_step = False
        return output

    def step(self, learning_rate: float) -> float:
        """Clip and update the weights. Returns the gradient's global norm before clipping."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        norm = self._clip() if self._stage == 0 else None
        self._engine.set_gradient_accumulation_boundary(True)
        self._engine.step()
        return float(self._engine.get_global_grad_norm() if norm is None else norm)

    @torch.no_grad()
    def evaluate(self, batch: Batch, normaliser: Normaliser) -> ObjectiveOutput:
        """The loss and every layer's key entropy of a held-out micro-batch, with the model in evaluation mode."""
        self._engine.eval()
        self.objective.steering.phase = "eval"
        try:
            output: ObjectiveOutput = self._engine(batch.to(self.device), normaliser, measure=True)
        finally:
            self.objective.steering.phase = "train"
            self._engine.train()
        return output

    def save(self, folder: Path) -> None:
        """Write this worker's shards into `folder`; every worker calls this.

        Raises:
            OSError, RuntimeError: the disk is full or refuses.
        """
        self._engine.save_checkpoint(
            str(folder.parent), tag=folder.name, save_latest=False, exclude_frozen_parameters=self._has_frozen
        )

    def load(self, folder: Path) -> None:
        """Take back what `save` wrote at this world size, or its universal form at any; every worker calls this."""
        self._engine.load_checkpoint(
            str(folder.parent),
            tag=folder.name,
            load_module_strict=not self._has_frozen,
            load_lr_scheduler_states=False,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The model's weights, whole, on the CPU of worker 0; empty elsewhere. Every worker calls this."""
        return self._whole(self.objective.model)

    def gate_state_dict(self) -> dict[str, Tensor]:
        """The same of a VMASK gate that was added to the model; empty without one."""
        return {} if self.objective.gate is None else self._whole(self.objective.gate)

    def _whole(self, model: nn.Module) -> dict[str, Tensor]:
        if self._stage < 3:
            return {name: t.detach().cpu() for name, t in model.state_dict().items()} if self._workers.is_first else {}
        whole: dict[str, Tensor] = {}
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, parameter in parameters.items():
            with deepspeed.zero.GatheredParameters([parameter]):
                if self._workers.is_first:
                    whole[name] = parameter.detach().cpu().clone()
        if self._workers.is_first:
            whole |= {name: t.cpu() for name, t in model.state_dict().items() if name not in parameters}
        return whole

    def close(self) -> None:
        """Take the hooks off the model and free the optimiser."""
        self._engine.destroy()
        self.objective.detach()

    def _clip(self) -> Tensor:
        gradients = [parameter.grad for parameter in self.objective.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._clip_norm is not None and norm > self._clip_norm:
            torch._foreach_mul_(gradients, float(self._clip_norm / norm))
        return norm


def _num_dimensions(parameter: Any) -> int:
    # A parameter that ZeRO-3 partitioned while it was loaded is an empty vector.
    return len(parameter.ds_shape) if is_zero_param(parameter) else parameter.dim()
