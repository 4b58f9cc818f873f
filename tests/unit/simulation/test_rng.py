"""Draws that depend on their place alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from steerline.simulation.rng import CounterRng

RNG = CounterRng(seed=7, tick=3)


def test_the_same_place_gives_the_same_draw() -> None:
    assert RNG.uniform("noise", "a") == CounterRng(7).at(3).uniform("noise", "a")


@pytest.mark.parametrize(
    "other",
    [
        CounterRng(8, 3).uniform("noise", "a"),
        CounterRng(7, 4).uniform("noise", "a"),
        RNG.uniform("noise", "b"),
        RNG.uniform("nois", "ea"),
        RNG.uniform("noise", "a", 1),
        RNG.within("x").uniform("noise", "a"),
    ],
)
def test_another_place_gives_another_draw(other: float) -> None:
    assert other != RNG.uniform("noise", "a")


def test_uniform_draws_are_uniform() -> None:
    draws = [RNG.uniform("noise", draw=n) for n in range(5000)]
    assert min(draws) >= 0
    assert max(draws) < 1
    assert stats.kstest(draws, "uniform").pvalue > 0.001


def test_normal_draws_are_normal() -> None:
    assert stats.kstest([RNG.normal("noise", draw=n) for n in range(5000)], "norm").pvalue > 0.001


def test_every_order_of_three_is_equally_likely() -> None:
    orders = Counter(tuple(RNG.at(tick).shuffled("abc", "order")) for tick in range(3000))
    assert len(orders) == 6
    assert stats.chisquare(list(orders.values())).pvalue > 0.001


def test_integers_reach_both_ends() -> None:
    assert {RNG.integer(-1, 2, "dice", draw=n) for n in range(100)} == {-1, 0, 1, 2}


def test_a_generator_starts_at_its_beginning() -> None:
    first, second = (RNG.generator("field").random(4) for _ in range(2))
    assert np.array_equal(first, second)


def test_draws_stay_the_same_over_versions() -> None:
    assert RNG.uniform("noise", "a") == 0.8800702777067534
