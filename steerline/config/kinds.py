"""The kinds of job that a config can name, and the spec that reads each."""

from __future__ import annotations

from steerline.config.evaluate import EvaluateSpec
from steerline.config.finetune import FinetuneSpec
from steerline.config.residual_fit import ResidualFitSpec
from steerline.config.simulate import SimulateSpec
from steerline.config.sweep import SweepSpec

JobSpec = FinetuneSpec | ResidualFitSpec | EvaluateSpec | SimulateSpec | SweepSpec
"""A spec of any kind: whatever is submitted, recorded and named."""

JOB_KINDS: dict[str, type[JobSpec]] = {
    "finetune": FinetuneSpec,
    "residual_scale": ResidualFitSpec,
    "evaluate": EvaluateSpec,
    "simulate": SimulateSpec,
    "sweep": SweepSpec,
}
"""Root `kind` to spec class."""

DEFAULT_KIND = "finetune"
"""Kind of a config that names none."""
