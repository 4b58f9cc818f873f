"""Why a simulation stands still, as those who may look at it read it."""

from __future__ import annotations

import pytest

from steerline.errors import SimulationError
from steerline.serving.simulations import told


def test_a_reason_names_no_path_of_this_machine() -> None:
    error = SimulationError("the log is not whole", where="/secret/simulations.db", got="5", expected="4", fix="look")
    assert told(error) == "the log is not whole; got: 5; expected: 4; fix: look"


def test_a_fault_is_named_with_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("nothing is shared")
    assert told(caught.value).startswith(
        "ZeroDivisionError: nothing is shared (test_a_fault_is_named_with_its_line, line "
    )
