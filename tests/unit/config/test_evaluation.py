"""Names of tasks, which become names of metrics."""

from __future__ import annotations

import pytest

from steerline.config.evaluation import metric_name
from steerline.tracking.naming import field_name


@pytest.mark.parametrize("name", ["boolq", "arc (easy)", "a/b c.d:e-f", "größe", "t?!*\n"])
def test_a_metric_is_called_what_the_tracking_calls_it(name: str) -> None:
    assert field_name(f"eval/{name}/accuracy") == f"eval/{metric_name(name)}/accuracy"
