"""Which layers a selection names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerline.errors import SteeringError
from steerline.steering.layers import select_layers


def test_the_thirds_of_24_layers_are_8_each() -> None:
    assert select_layers("early", 24) == tuple(range(8))
    assert select_layers("middle", 24) == tuple(range(8, 16))
    assert select_layers("late", 24) == tuple(range(16, 24))


@settings(derandomize=True, deadline=None)
@given(num_layers=st.integers(3, 200))
def test_the_thirds_divide_all_layers_evenly(num_layers: int) -> None:
    thirds = [select_layers(third, num_layers) for third in ("early", "middle", "late")]  # type: ignore[arg-type]
    assert sum(thirds, ()) == select_layers("all", num_layers)
    assert max(map(len, thirds)) - min(map(len, thirds)) <= 1


def test_a_list_comes_back_in_ascending_order() -> None:
    assert select_layers((5, 0, 3), 6) == (0, 3, 5)


def test_a_layer_beyond_the_model_is_refused() -> None:
    with pytest.raises(SteeringError, match="fewer layers"):
        select_layers((0, 6), 6)


def test_an_empty_third_is_refused() -> None:
    with pytest.raises(SteeringError, match="no layer"):
        select_layers("early", 2)
