"""Where runs are recorded."""

from __future__ import annotations

from pydantic import Field

from steerline.config.base import Spec


class RegisterSpec(Spec):
    """Register the exported model."""

    name: str
    """Name in the model registry."""
    alias: str | None = None
    """Alias that is moved to the new version, e.g. `candidate`."""


class TrackingSpec(Spec):
    """The MLflow server. `MLFLOW_TRACKING_URI` may give its address too; credentials come only from the environment."""

    uri: str | None = None
    """Server address; none takes `MLFLOW_TRACKING_URI`."""
    experiment: str = "steerline"
    """Experiment that holds the runs."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Further tags of the run."""
    register_as: RegisterSpec | None = None
    """Register the exported model after training."""
    upload_weights: bool = False
    """Upload the exported weights; otherwise MLflow keeps their address and digests, and the small files."""
    system_metrics_every_s: float | None = Field(default=10.0, gt=0)
    """Seconds between CPU, memory, disk and GPU readings; none takes none."""
