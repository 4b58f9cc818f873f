"""AdamW, its parameter groups, and the learning rate's course."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from steerline.config.training import OptimizerSpec, ScheduleSpec


def learning_rate(optimizer: OptimizerSpec, schedule: ScheduleSpec, step: int, num_steps: int) -> float:
    """The learning rate of optimiser step `step`, counted from 0: a function of the step alone, so resuming is exact.

    It rises linearly to the peak over `warmup_steps`; linear and cosine then fall to 0 after the last step.
    """
    warmup = schedule.warmup_steps
    if step < warmup:
        return optimizer.learning_rate * (step + 1) / warmup
    remaining = (num_steps - step) / max(1, num_steps - warmup)
    factor = {
        "constant": 1.0,
        "linear": remaining,
        "cosine": 0.5 * (1 - math.cos(math.pi * remaining)),
    }[schedule.kind]
    return optimizer.learning_rate * factor


def parameter_groups(parameters: Iterable[tuple[nn.Parameter, int]], spec: OptimizerSpec) -> list[dict[str, Any]]:
    """The trainable parameters in two groups: matrices decay, vectors (biases, norms) do not.

    Args:
        parameters: each with its number of dimensions (a partitioned parameter does not show its own).
        spec: the optimiser.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter, num_dimensions in parameters:
        if parameter.requires_grad:
            (decayed if num_dimensions >= 2 else kept).append(parameter)
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(groups: list[dict[str, Any]], spec: OptimizerSpec) -> torch.optim.AdamW:
    """Torch's fused AdamW."""
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=spec.betas, eps=spec.eps, fused=True)


class MasterAdamW(torch.optim.Optimizer):
    """AdamW on float32 copies of bf16 parameters, whose gradients accumulate in float32.

    Args:
        groups: as `parameter_groups` gives them.
        spec: the optimiser.
    """

    def __init__(self, groups: list[dict[str, Any]], spec: OptimizerSpec) -> None:
        super().__init__(groups, {"lr": spec.learning_rate})
        masters = []
        for group in self.param_groups:
            copies = [parameter.detach().float().clone() for parameter in group["params"]]
            masters.append({"params": copies, "weight_decay": group["weight_decay"]})
            for parameter in group["params"]:
                parameter.grad_dtype = torch.float32
        self._inner = adamw(masters, spec)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the float32 copies, then round them into the parameters."""
        assert closure is None
        for group, masters in zip(self.param_groups, self._inner.param_groups, strict=True):
            masters["lr"] = group["lr"]
            for parameter, master in zip(group["params"], masters["params"], strict=True):
                master.grad = parameter.grad
        self._inner.step()
        self._inner.zero_grad()
        self._round()

    def state_dict(self) -> dict[str, Any]:
        """The float32 weights and AdamW's state."""
        masters = [group["params"] for group in self._inner.param_groups]
        return {"masters": masters, "adamw": self._inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; the parameters follow."""
        with torch.no_grad():
            for group, masters in zip(self._inner.param_groups, state_dict["masters"], strict=True):
                for master, saved in zip(group["params"], masters, strict=True):
                    master.copy_(saved)
        self._inner.load_state_dict(state_dict["adamw"])
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        for group, masters in zip(self.param_groups, self._inner.param_groups, strict=True):
            torch._foreach_copy_(group["params"], masters["params"])
