"""The kinds of job that a config can name, and the spec that reads each."""

from __future__ import annotations

from steerline.config.base import Spec
from steerline.config.finetune import FinetuneSpec

JOB_KINDS: dict[str, type[Spec]] = {"finetune": FinetuneSpec}
"""Root `kind` to spec class."""

DEFAULT_KIND = "finetune"
"""Kind of a config that names none."""
