"""The kinds of job that a config can name, and the spec that reads each."""

from __future__ import annotations

from steerline.config.finetune import FinetuneSpec

JobSpec = FinetuneSpec
"""A spec of any kind: whatever is submitted, recorded and named."""

JOB_KINDS: dict[str, type[JobSpec]] = {"finetune": FinetuneSpec}
"""Root `kind` to spec class."""

DEFAULT_KIND = "finetune"
"""Kind of a config that names none."""
