"""The base of every spec, and the mark for fields that do not change what a run computes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


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


def misfit(what: str, *fields: str, expected: str | None = None, fix: str | None = None) -> PydanticCustomError:
    """The error for a validator to raise: a value that is well formed but refused, or values that do not go together.

    Args:
        what: one sentence without a trailing full stop.
        fields: the fields concerned, relative to the spec that raises (`num_steps`, `raw.optimizer`). The first one
            that the user wrote is where the problem is shown. A field validator names none.
        expected: what is allowed.
        fix: the next thing to change.
    """
    return PydanticCustomError("misfit", "{what}", {"what": what, "fields": fields, "expected": expected, "fix": fix})
