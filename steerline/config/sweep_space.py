"""What a sweep varies: axes, each of them values of one key of the base config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from steerline.config.base import Spec, misfit

Condition = dict[str, tuple[JsonValue, ...]]
"""Other axes and the values of theirs under which an axis is there."""


class ListAxis(Spec):
    """Some values, one after the other."""

    kind: Literal["grid", "choice"]
    """`grid`: each value with each value of the other grid axes. `choice`: the search draws one."""
    values: tuple[JsonValue, ...] = Field(min_length=1)
    """The values; a mapping is laid over what the base has there, everything else replaces it."""
    when: Condition = Field(default_factory=dict)
    """Only where these other axes have one of these values; elsewhere the base's own value stays."""

    @model_validator(mode="after")
    def _values_are_distinct(self) -> ListAxis:
        if any(value in self.values[:index] for index, value in enumerate(self.values)):
            raise misfit("a value is named twice, and would be run twice", "values", expected="each value once")
        return self


class RangeAxis(Spec):
    """A range that the search draws from."""

    kind: Literal["uniform", "log_uniform"]
    """`uniform` draws evenly, `log_uniform` evenly in the logarithm."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    integer: bool = False
    """Draw whole numbers."""
    when: Condition = Field(default_factory=dict)
    """Only where these other axes have one of these values; elsewhere the base's own value stays."""

    @model_validator(mode="after")
    def _range_is_one(self) -> RangeAxis:
        if self.low >= self.high:
            raise misfit(
                "the range is empty",
                "high",
                expected=f"more than `low`, which is {self.low:g}",
                fix="a single value needs no axis: set it in `base`",
            )
        if self.kind == "log_uniform" and self.low <= 0:
            raise misfit("a logarithm needs numbers above 0", "low", fix="raise `low`, or use `kind: uniform`")
        if self.integer and (self.low != int(self.low) or self.high != int(self.high)):
            raise misfit("the ends of a range of whole numbers are whole", "low", fix="round `low` and `high`")
        return self


Axis = Annotated[ListAxis | RangeAxis, Field(discriminator="kind")]
"""One axis."""
