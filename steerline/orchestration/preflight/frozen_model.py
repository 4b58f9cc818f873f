"""What is looked at before any job that loads a model and trains none of it."""

from __future__ import annotations

from steerline.orchestration.preflight import (
    checks_cluster,
    checks_data,
    checks_job,
    checks_machine,
    checks_model,
    checks_tracking,
)
from steerline.orchestration.preflight.core import Check

FROZEN_MODEL_CHECKS: tuple[Check, ...] = (
    Check("remote-code", checks_job.trust, "job"),
    Check("attention", checks_model.kernel, "job"),
    Check("model", checks_model.source, "machine"),
    Check("attention-package", checks_model.attention_package, "machine"),
    Check("data", checks_data.sources, "machine"),
    Check("columns", checks_data.templates, "machine"),
    Check("workers", checks_cluster.capacity, "job"),
    Check("storage", checks_machine.storage, "machine"),
    Check("gpu-here", checks_machine.gpu, "machine"),
    Check("tracking", checks_tracking.server, "machine"),
)
"""Its model, its data, its cluster and where it is recorded."""
