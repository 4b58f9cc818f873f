"""Facts that are drawn for each agent of a population."""

from __future__ import annotations

import math
from statistics import fmean, median, pstdev
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from steerline.config.simulation_distributions import DistributionSpec
from steerline.simulation.distributions import quantile, range_of
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from tests.unit.simulation.test_populations import FULL, peopled, profiles

N = 20_000


def spec(**fields: Any) -> DistributionSpec:
    read: DistributionSpec = TypeAdapter(DistributionSpec).validate_python(fields)
    return read


def drawn(**fields: Any) -> list[Any]:
    one, rng = spec(**fields), CounterRng(3)
    return [quantile(one, rng.uniform("x", draw=n)) for n in range(N)]


def test_draws_have_the_moments_of_their_distribution() -> None:
    normal = drawn(kind="normal", mean=40, std=15)
    assert abs(fmean(normal) - 40) < 5 * 15 / math.sqrt(N)
    assert pstdev(normal) == pytest.approx(15, rel=0.03)
    assert fmean(drawn(kind="uniform", low=-1, high=3)) == pytest.approx(1, abs=5 * 4 / math.sqrt(12 * N))
    logs = [math.log(value) for value in drawn(kind="log_normal", median=30_000, sigma=0.5)]
    assert median(logs) == pytest.approx(math.log(30_000), abs=0.03)
    assert pstdev(logs) == pytest.approx(0.5, rel=0.03)


def test_a_cut_off_normal_is_truncated_and_not_clipped() -> None:
    values = drawn(kind="normal", mean=0, std=1, low=0)
    assert min(values) >= 0
    assert sum(value == 0 for value in values) < 5
    # The half-normal distribution's mean.
    assert fmean(values) == pytest.approx(math.sqrt(2 / math.pi), abs=0.03)


def test_whole_numbers_and_words_come_as_often_as_they_should() -> None:
    dice = drawn(kind="integer", low=1, high=6)
    assert {*dice} == {1, 2, 3, 4, 5, 6}
    words = drawn(kind="weighted", weights={"a": 3, "b": 0, "c": 1})
    assert {*words} == {"a", "c"}
    assert words.count("a") / N == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-53])
def test_the_outermost_draws_are_finite(u: float) -> None:
    for fields in ({"kind": "normal", "mean": 0, "std": 1}, {"kind": "log_normal", "median": 1, "sigma": 1}):
        value = quantile(spec(**fields), u)
        assert isinstance(value, float)
        assert math.isfinite(value)
    assert quantile(spec(kind="weighted", weights={"a": 0.1, "b": 0.2, "c": 0.0}), u) in ("a", "b")
    assert quantile(spec(kind="integer", low=1, high=6), u) in (1, 6)


def test_a_bound_belongs_to_the_range_that_it_begins() -> None:
    told = [range_of(value, (18, 65)) for value in (17.9, 18, 64.9, 65)]
    assert told == ["below 18", "18 to 65", "18 to 65", "65 or more"]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "uniform", "low": 1, "high": 1},
        {"kind": "integer", "low": 2, "high": 1},
        {"kind": "normal", "mean": 0, "std": 1, "low": 3, "high": 2},
        {"kind": "normal", "mean": 0, "std": 1, "low": 40},
        {"kind": "weighted", "weights": {"a": 0}},
        {"kind": "weighted", "weights": {"a": -1, "b": 2}},
    ],
)
def test_what_is_no_distribution_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**fields)


def people(**group: Any) -> Result:
    draws = {
        "age": {"kind": "normal", "mean": 40, "std": 15, "low": 0},
        "slope": {"kind": "uniform", "low": 0, "high": 1},
    }
    mix = {"kind": "mix", "count": 30, "groups": [{"brain": FULL, "draws": draws, "traits": ["age"], **group}]}
    return run(peopled(mix))


def test_a_group_draws_facts_for_each_of_its_agents() -> None:
    result = people(profile={"traits": ["kind"], "attributes": {"town": "A"}})
    found = profiles(result)
    ages = [profile["attributes"]["age"] for profile in found]
    assert len({*ages}) == 30
    assert all(profile["traits"] == ["kind", f"age: {age:.4g}"] for profile, age in zip(found, ages, strict=True))
    assert all(profile["attributes"]["town"] == "A" for profile in found)
    assert result.hash == people(profile={"traits": ["kind"], "attributes": {"town": "A"}}).hash


def test_ranges_make_few_kinds_of_many_agents() -> None:
    traits = {profile["traits"][0] for profile in profiles(people(bins={"age": [30, 50]}))}
    assert traits == {"age: below 30", "age: 30 to 50", "age: 50 or more"}


@pytest.mark.parametrize(
    ("group", "what"),
    [
        ({"traits": ["height"]}, "height is not drawn"),
        ({"bins": {"slope": [0.5]}}, "slope is not written out"),
        ({"bins": {"age": [50, 30]}}, "do not ascend"),
    ],
)
def test_facts_that_are_told_are_drawn(group: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        people(**group)
