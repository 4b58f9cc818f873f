"""The base of every spec, and the mark for fields that do not change what a run computes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen piece of configuration. Unknown keys are errors; each field's docstring is its help text."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
    )


# `Field(json_schema_extra=NOT_IDENTITY)`: the field changes how or where a run is carried out, not its result,
# so it stays out of the hash that names the run. Changing it resumes the same run.
NOT_IDENTITY: dict[str, Any] = {"identity": False}
