"""The group of training workers, as far as the loop needs to know it: who am I, sum this, do we all agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist

from steerline.errors import SteerlineError

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """This worker's place among all. At world size 1 no call communicates.

    Args:
        rank: this worker, counted from 0.
        world_size: number of workers.
        device: where this worker computes, and where tensors of its collectives live.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def of_process_group(cls, device: torch.device) -> Workers:
        """The workers of torch's default process group."""
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @property
    def is_first(self) -> bool:
        """Whether this worker does what only one may do."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The elementwise sum of `values` over all workers, float64, same shape, on the CPU."""
        total = values.to(self.device, torch.float64, copy=True)
        if self.world_size > 1:
            dist.all_reduce(total)
        return total.cpu()

    def barrier(self) -> None:
        """Wait for all workers."""
        if self.world_size > 1:
            dist.barrier()

    def from_first(self, value: T) -> T:
        """What worker 0 passed, on every worker."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """What every worker passed, in order of rank, on every worker."""
        if self.world_size == 1:
            return [value]
        values: list[T] = [value] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def first_error(self, error: SteerlineError | None) -> SteerlineError | None:
        """The error of the lowest rank that brings one, on every worker; None when none does.

        A user's error on one worker would otherwise leave the others waiting in a collective.
        """
        return next((found for found in self.gather(error) if found is not None), None)
