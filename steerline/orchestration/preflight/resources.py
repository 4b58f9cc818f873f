"""What a cluster's nodes have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_GIB = 2**30

# Ray knows the type of an accelerator, not its memory. The largest card of each type, in GiB, so that a job is refused
# only where it cannot fit.
_GPU_MEMORY_GIB = {
    "P100": 16,
    "V100": 32,
    "T4": 16,
    "L4": 24,
    "A10": 24,
    "A10G": 24,
    "L40S": 48,
    "A100": 80,
    "A100-40G": 40,
    "A100-80G": 80,
    "H100": 80,
    "H200": 141,
    "B200": 192,
}
WITHOUT_BF16 = ("P100", "V100", "T4")
"""Types whose cores have no bf16 arithmetic."""


@dataclass(frozen=True)
class NodeResources:
    """One node."""

    name: str
    cpus: float
    gpus: float = 0
    memory_bytes: float | None = None
    """Host memory that Ray may give out."""
    gpu_type: str | None = None
    """Ray's name of the accelerator, e.g. `A100`."""

    @property
    def gpu_memory_bytes(self) -> float | None:
        """Memory of one GPU, where its type is known."""
        size = _GPU_MEMORY_GIB.get(self.gpu_type or "")
        return None if size is None else size * _GIB

    def num_workers(self, cpus: float, gpus: float) -> int:
        """How many workers of this size fit."""
        fits = int(self.cpus // cpus)
        return min(fits, int(self.gpus // gpus)) if gpus else fits


@dataclass(frozen=True)
class ClusterResources:
    """All nodes that are up."""

    nodes: tuple[NodeResources, ...]
    can_grow: bool = False
    """Whether an autoscaler may add nodes, so that what is missing now may come."""

    @property
    def cpus(self) -> float:
        """All CPUs."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """All GPUs."""
        return sum(node.gpus for node in self.nodes)

    @classmethod
    def from_ray(cls, rows: Iterable[Mapping[str, Any]], *, can_grow: bool = False) -> ClusterResources:
        """Read `ray.nodes()`, or the rows of Ray's State API (`GET /api/v0/nodes`)."""
        nodes = []
        for row in rows:
            if row.get("Alive", row.get("state") == "ALIVE"):
                total = row.get("Resources", row.get("resources_total")) or {}
                name = row.get("NodeManagerAddress") or row.get("node_ip") or "node"
                nodes.append(_node(str(name), total))
        return cls(tuple(nodes), can_grow)


def _node(name: str, total: Mapping[str, float]) -> NodeResources:
    types = [match[1] for key in total if (match := re.fullmatch(r"accelerator_type:(.+)", key))]
    return NodeResources(
        name,
        cpus=total.get("CPU", 0.0),
        gpus=total.get("GPU", 0.0),
        memory_bytes=total.get("memory"),
        gpu_type=types[0] if types else None,
    )
