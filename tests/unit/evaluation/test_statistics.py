from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from steerline.errors import EvaluationError
from steerline.evaluation.statistics import (
    bootstrap_interval,
    bootstrap_means,
    holm,
    macro_interval,
    mcnemar,
    paired_macro_test,
    paired_test,
    permutation_p_value,
    wilson_interval,
)


def answers(rng: np.random.Generator, p: float, size: int) -> np.ndarray:
    return (rng.random(size) < p).astype(float)


def test_bootstrap_means_have_the_distribution_of_drawing_items_with_replacement() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    ours = bootstrap_means(values, 20_000, np.random.default_rng(1))
    plain = values[rng.integers(0, 40, (20_000, 40))].mean(axis=1)
    assert ours.mean() == pytest.approx(plain.mean(), abs=0.005)
    assert np.quantile(ours, [0.025, 0.5, 0.975]) == pytest.approx(np.quantile(plain, [0.025, 0.5, 0.975]), abs=0.015)


def test_interval_covers_the_true_accuracy_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for p in (0.5, 0.8):
        covered = 0
        for i in range(400):
            interval = bootstrap_interval(answers(rng, p, 200), num_resamples=400, confidence=0.9, seed=i)
            covered += interval.low <= p <= interval.high
        # 3.5 standard errors of a coverage estimated from 400 draws, and the percentile interval's own small shortfall.
        assert 0.84 <= covered / 400 <= 0.955


def test_macro_interval_covers_the_mean_of_unequal_tasks() -> None:
    rng = np.random.default_rng(3)
    truth = (0.3, 0.6, 0.9)
    covered = 0
    for i in range(300):
        strata = [answers(rng, p, n) for p, n in zip(truth, (50, 400, 120), strict=True)]
        interval = macro_interval(strata, num_resamples=300, confidence=0.9, seed=i)
        covered += interval.low <= np.mean(truth) <= interval.high
    assert 0.83 <= covered / 300 <= 0.96


def test_paired_interval_covers_the_true_difference() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for i in range(300):
        a = answers(rng, 0.5, 200)
        b = np.where(rng.random(200) < 0.3, answers(rng, 0.7, 200), a)  # correlated; difference 0.3 * 0.2
        test = paired_test(a, b, num_resamples=300, confidence=0.9, seed=i)
        covered += test.difference.low <= 0.06 <= test.difference.high
    assert 0.83 <= covered / 300 <= 0.96


def test_bootstrap_interval_agrees_with_wilson() -> None:
    values = np.repeat([1.0, 0.0], [130, 70])
    ours, wilson = bootstrap_interval(values), wilson_interval(130, 200)
    assert ours.mean == wilson.mean == 0.65
    assert (ours.low, ours.high) == pytest.approx((wilson.low, wilson.high), abs=0.01)


def test_ten_right_of_ten_is_not_certainty() -> None:
    assert bootstrap_interval(np.ones(10)).low == pytest.approx(wilson_interval(10, 10).low)
    assert bootstrap_interval(np.zeros(10)).high == pytest.approx(wilson_interval(0, 10).high)
    both = macro_interval([np.ones(10), np.ones(10)])
    assert wilson_interval(10, 10).low < both.low < 1


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_many_distinct_values_are_resampled_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steerline.evaluation.statistics._MAX_CELLS", 1000)
    means = bootstrap_means(np.arange(300.0), 100, np.random.default_rng(0))
    assert means.shape == (100,)
    assert means.mean() == pytest.approx(149.5, abs=5)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 6), (3, 9), (10, 10), (25, 11)])
def test_mcnemar_is_the_exact_binomial_test_of_discordant_pairs(only_a: int, only_b: int) -> None:
    n, k = only_a + only_b, min(only_a, only_b)
    by_hand = min(1.0, 2 * float(binom.cdf(k, n, 0.5)))
    assert mcnemar(only_a, only_b) == pytest.approx(by_hand)
    if n:
        assert mcnemar(only_a, only_b) == pytest.approx(binomtest(only_a, n).pvalue)


def test_paired_test_counts_discordant_items_and_signs_the_difference_second_minus_first() -> None:
    a = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    b = np.array([1, 0, 1, 1, 1, 1, 0, 1])
    test = paired_test(a, b)
    assert (test.only_a, test.only_b, test.num_items) == (1, 3, 8)
    assert test.difference.mean == pytest.approx(0.25)
    assert test.p_value == pytest.approx(binomtest(3, 4).pvalue)


def test_pairing_is_tighter_than_two_separate_intervals() -> None:
    rng = np.random.default_rng(0)
    a = answers(rng, 0.6, 300)
    b = a.copy()
    b[:20] = 1
    paired = paired_test(a, b).difference
    alone = bootstrap_interval(a)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_group_p_value_agrees_with_the_enumerated_permutations() -> None:
    a1, b1 = np.array([0, 0, 0, 1, 1]), np.array([1, 1, 1, 1, 1])  # 3 discordant
    a2, b2 = np.array([0, 0, 1, 1]), np.array([1, 0, 1, 0])  # 2 discordant
    observed = 3 / 5 + 0.0
    sums = [
        (2 * i - 3) / 5 + (2 * j - 2) / 4
        for i in range(4)
        for j in range(3)
        for _ in range(int(binom.pmf(i, 3, 0.5) * 8 + 0.5) * int(binom.pmf(j, 2, 0.5) * 4 + 0.5))
    ]
    exact = np.mean([abs(s) >= observed - 1e-12 for s in sums])
    test = paired_macro_test([(a1, b1), (a2, b2)], num_resamples=20_000)
    assert test.p_value == pytest.approx(exact, abs=0.015)
    assert test.difference.mean == pytest.approx(0.3)


def test_group_of_one_task_is_that_task() -> None:
    rng = np.random.default_rng(0)
    a, b = answers(rng, 0.5, 50), answers(rng, 0.6, 50)
    assert paired_macro_test([(a, b)]) == paired_test(a, b)
    assert macro_interval([a]) == bootstrap_interval(a)


def test_permutation_test_approaches_mcnemar_on_answers() -> None:
    rng = np.random.default_rng(1)
    a, b = answers(rng, 0.5, 60), answers(rng, 0.7, 60)
    assert permutation_p_value(a, b, num_resamples=20_000) == pytest.approx(paired_test(a, b).p_value, abs=0.015)


def test_p_values_of_equal_systems_are_rarely_small() -> None:
    rng = np.random.default_rng(2)
    small = 0
    for i in range(300):
        pairs = [(answers(rng, 0.5, 60), answers(rng, 0.5, 60)) for _ in range(2)]
        small += paired_macro_test(pairs, num_resamples=200, seed=i).p_value < 0.05
    assert small / 300 < 0.09


def test_holm_steps_down_and_keeps_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx((0.06, 0.03, 0.06))
    assert holm([0.9, 0.8]) == pytest.approx((1.0, 1.0))
    assert holm([]) == ()


def test_unequal_lengths_and_empty_lists_are_refused() -> None:
    with pytest.raises(EvaluationError, match="same items"):
        paired_test([1, 0], [1])
    with pytest.raises(EvaluationError, match="at least one value"):
        bootstrap_interval([])
    with pytest.raises(EvaluationError, match="at least one task"):
        macro_interval([])
