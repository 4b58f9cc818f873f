from __future__ import annotations

from steerline.inference.concurrency import Concurrency
from steerline.inference.request import BackendLimits


def test_a_fixed_limit_stays() -> None:
    fixed = Concurrency(BackendLimits(in_flight=2))
    fixed.was_busy(1.0, 2.0)
    fixed.succeeded()
    assert fixed.limit == 2


def test_a_window_of_successes_adds_one_call_up_to_the_limit() -> None:
    adaptive = Concurrency(BackendLimits(in_flight=6, adaptive=True))
    grown = [adaptive.limit]
    for _ in range(40):
        adaptive.succeeded()
        grown.append(adaptive.limit)
    assert grown[0] == 4
    assert grown[5] == 5
    assert grown[-1] == 6


def test_calls_that_were_under_way_together_halve_the_limit_once() -> None:
    adaptive = Concurrency(BackendLimits(in_flight=100, adaptive=True))
    for start in (1.0, 1.1, 1.2):
        adaptive.was_busy(start, 2.0)
    assert adaptive.limit == 2
    adaptive.was_busy(2.5, 3.0)
    adaptive.was_busy(3.5, 4.0)
    assert adaptive.limit == 1
