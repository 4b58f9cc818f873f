"""What SAFR's terms refuse."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from steerline.config.safr import ImportanceSpec, InteractionSpec, VmaskSpec


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("term", [ImportanceSpec, InteractionSpec])
def test_a_strength_is_a_number_from_0(term: type[ImportanceSpec | InteractionSpec], strength: float) -> None:
    with pytest.raises(ValidationError, match="strength"):
        term(strength=strength)
    assert term(strength=0).strength == 0


@pytest.mark.parametrize("field", ["temperature", "final_temperature"])
def test_a_temperature_is_above_0(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        VmaskSpec.model_validate({field: 0})
