"""Where a job runs and what it may use."""

from __future__ import annotations

from pydantic import Field

from steerline.config.base import Spec


class ClusterSpec(Spec):
    """Workers and storage."""

    num_workers: int = Field(default=1, ge=1)
    """Training workers."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """CPUs that Ray reserves for each worker; also its number of torch threads."""
    use_gpu: bool = False
    """One GPU for each worker."""
    preemptible: bool = False
    """Nodes may be taken away: ask Ray after each step, and save at once when it says so."""
    storage_path: str = "runs"
    """Folder for checkpoints and exports; shared by all nodes when there are several. A relative one lies under the
    Steerline home (`$STEERLINE_HOME`, else `.steerline`)."""
    max_failures: int = Field(default=3, ge=0)
    """Times a run is restarted from its last checkpoint after a worker died."""
