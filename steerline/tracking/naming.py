"""Names that MLflow accepts, and the tags that carry lineage."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

MAX_NAME_CHARS = 250

TAG_RUN_NAME = "steerline.run_name"
TAG_RUN_KIND = "steerline.kind"
TAG_CONFIG_HASH = "steerline.config_hash"
TAG_ATTEMPT = "steerline.attempt"
"""How often the run has started; a run that only was submitted has none."""
TAG_RAY_JOB = "steerline.ray_job_id"
TAG_REASON = "steerline.reason"
"""Why a run that was submitted never started."""
TAG_PARENT = "steerline.parent."
TAG_PARENTS = "steerline.parents"
TAG_PARENT_RUN = "mlflow.parentRunId"

_NOT_ALLOWED = re.compile(r"[^\w\-. :/]")


def field_name(name: str) -> str:
    """The name with each character that MLflow refuses replaced by `_`, shortened to 250 characters."""
    return _NOT_ALLOWED.sub("_", name)[:MAX_NAME_CHARS]


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Leaves of a nested mapping by dotted name, as text. A list is one leaf when its items are plain."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, name))
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            flat.update(flatten({str(i): item for i, item in enumerate(value)}, name))
        else:
            flat[field_name(name)] = _as_text(value)
    return flat


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple | bool) or value is None:
        return json.dumps(value, default=str)
    return str(value)


def lineage_tags(parents: Mapping[str, str]) -> dict[str, str]:
    """Tags that name what a run or a model was derived from.

    Args:
        parents: role (`base_model`, `dataset`, `checkpoint`, `sweep`, ...) to reference: a run id, a model URI, a
            data set digest or a model's name in the same run.

    Returns:
        One tag for each role, and one with all references between commas, by which MLflow can search.
    """
    if not parents:
        return {}
    tags = {field_name(TAG_PARENT + role): reference for role, reference in parents.items()}
    tags[TAG_PARENTS] = "," + ",".join(sorted(set(parents.values()))) + ","
    return tags
