"""Intervals and paired tests over items. Everything here is a pure, seeded function of arrays.

Legend: N items of a task, R resamples, S strata (tasks of a group).

A bootstrap mean needs only how often each distinct value was drawn, so resamples are multinomial counts over the
distinct values: the same distribution as drawing N items with replacement, at a cost that does not grow with N for 0/1
answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, t

from steerline.errors import EvaluationError

Floats = NDArray[np.float64]

# Multinomial counts held at once: 4 Mi of 8 bytes.
_MAX_CELLS = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """What changed between two systems on the same items; `only_a` items were right for the first alone."""

    difference: Interval
    p_value: float
    only_a: int
    only_b: int
    num_items: int


def _values(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise EvaluationError(
            "a statistic needs a list of at least one value",
            got=f"an array of shape {array.shape}",
            fix="check that the task has items",
        )
    return array


def bootstrap_means(values: ArrayLike, num_resamples: int, rng: np.random.Generator) -> Floats:
    """Means of `num_resamples` samples drawn with replacement from `values` [N]. Returns [R]."""
    distinct, counts = np.unique(_values(values), return_counts=True)
    size = int(counts.sum())
    chunk = max(1, _MAX_CELLS // len(distinct))
    parts = [
        rng.multinomial(size, counts / size, size=min(chunk, num_resamples - start)) @ distinct / size
        for start in range(0, num_resamples, chunk)
    ]
    return np.concatenate(parts)


def percentile_interval(mean: float, replicates: Floats, confidence: float) -> Interval:
    """The percentile interval of bootstrap replicates [R]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def bootstrap_interval(
    values: ArrayLike, *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of `values` [N].

    Where all values are equal a bootstrap cannot see any spread; 0/1 answers then get Wilson's interval, so that ten
    right answers of ten are not reported as certain.

    Raises:
        EvaluationError: there are no values.
    """
    array = _values(values)
    mean = float(array.mean())
    if array.min() == array.max() and mean in (0.0, 1.0):
        return wilson_interval(int(array.sum()), len(array), confidence=confidence)
    replicates = bootstrap_means(array, num_resamples, np.random.default_rng(seed))
    return percentile_interval(mean, replicates, confidence)


def wilson_interval(successes: int, num_items: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927)."""
    result = binomtest(successes, num_items).proportion_ci(confidence, method="wilson")
    return Interval(successes / num_items, float(result.low), float(result.high))


def t_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Student's interval of the mean of a few independent runs' values [N]: a bootstrap of 3 or 5 seeds is too narrow.

    Raises:
        EvaluationError: there are fewer than two values, or one is not finite.
    """
    array = _values(values)
    if len(array) < 2 or not np.isfinite(array).all():
        raise EvaluationError(
            "an interval over runs needs at least two finite values", got=array.tolist(), fix="run more seeds"
        )
    mean = float(array.mean())
    reach = float(t.ppf((1 + confidence) / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Interval(mean, mean - reach, mean + reach)


def macro_interval(
    strata: Sequence[ArrayLike], *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of the mean of task means: each task's items are resampled apart (stratified bootstrap).

    One stratum alone gives exactly `bootstrap_interval`. Where every stratum is constant there is no spread to
    resample; the interval is then the normal one over the strata's Wilson half-widths.
    """
    if not strata:
        raise EvaluationError("a group mean needs at least one task", fix="check the group's tasks")
    arrays = [_values(stratum) for stratum in strata]
    if len(arrays) == 1:
        return bootstrap_interval(arrays[0], num_resamples=num_resamples, confidence=confidence, seed=seed)
    mean = float(np.mean([array.mean() for array in arrays]))
    if all(array.min() == array.max() for array in arrays):
        return _constant_strata_interval(arrays, mean, confidence)
    replicates = np.mean(
        [bootstrap_means(a, num_resamples, np.random.default_rng([seed, i])) for i, a in enumerate(arrays)], axis=0
    )
    return percentile_interval(mean, replicates, confidence)


def _constant_strata_interval(arrays: list[Floats], mean: float, confidence: float) -> Interval:
    parts = [wilson_interval(round(float(a.sum())), len(a), confidence=confidence) for a in arrays]
    down = float(np.sqrt(np.sum([(p.mean - p.low) ** 2 for p in parts]))) / len(parts)
    up = float(np.sqrt(np.sum([(p.high - p.mean) ** 2 for p in parts]))) / len(parts)
    return Interval(mean, max(0.0, mean - down), min(1.0, mean + up))


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar p-value from the two counts of discordant items; 1 where there are none."""
    discordant = only_a + only_b
    return float(binomtest(only_b, discordant, 0.5).pvalue) if discordant else 1.0


def _differences(a: ArrayLike, b: ArrayLike) -> Floats:
    first, second = _values(a), _values(b)
    if first.shape != second.shape:
        raise EvaluationError(
            "a paired comparison needs the same items on both sides",
            got=f"{len(first)} and {len(second)} items",
            fix="evaluate both runs with the same tasks, limit and seed",
        )
    return second - first


def paired_test(
    a: ArrayLike, b: ArrayLike, *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> PairedTest:
    """Compare 0/1 answers [N] of two systems on the same items, in the same order.

    Returns the difference b - a with its paired bootstrap interval and the exact McNemar p-value.

    Raises:
        EvaluationError: the two differ in length or are empty.
    """
    difference = _differences(a, b)
    mean = float(difference.mean())
    replicates = bootstrap_means(difference, num_resamples, np.random.default_rng(seed))
    only_a, only_b = int((difference < 0).sum()), int((difference > 0).sum())
    return PairedTest(
        percentile_interval(mean, replicates, confidence), mcnemar(only_a, only_b), only_a, only_b, len(difference)
    )


def paired_macro_test(
    strata: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Compare the mean of task means of two systems: stratified paired bootstrap and a stratified permutation test.

    The permutation swaps the two systems' answers item by item, so only discordant items matter: a task's difference
    becomes (2 Binomial(discordant, 1/2) - discordant) / N. The p-value counts the observed arrangement among the draws.
    With one stratum the exact McNemar p-value is returned instead of its simulation.
    """
    if not strata:
        raise EvaluationError("a group comparison needs at least one task", fix="check the group's tasks")
    if len(strata) == 1:
        return paired_test(*strata[0], num_resamples=num_resamples, confidence=confidence, seed=seed)
    differences = [_differences(a, b) for a, b in strata]
    means = np.array([d.mean() for d in differences])
    replicates = np.zeros(num_resamples)
    permuted = np.zeros(num_resamples)
    for i, difference in enumerate(differences):
        rng = np.random.default_rng([seed, i])
        replicates += bootstrap_means(difference, num_resamples, rng)
        discordant = int((difference != 0).sum())
        permuted += (2 * rng.binomial(discordant, 0.5, num_resamples) - discordant) / len(difference)
    # Sums of fractions differ in the last bits between orders of addition.
    as_far = int((np.abs(permuted) >= abs(means.sum()) - 1e-12).sum())
    return PairedTest(
        percentile_interval(float(means.mean()), replicates / len(strata), confidence),
        (1 + as_far) / (1 + num_resamples),
        sum(int((d < 0).sum()) for d in differences),
        sum(int((d > 0).sum()) for d in differences),
        sum(len(d) for d in differences),
    )


def permutation_p_value(a: ArrayLike, b: ArrayLike, *, num_resamples: int = 10000, seed: int = 0) -> float:
    """Two-sided sign-flip permutation p-value for the mean difference of real-valued paired scores [N].

    For 0/1 answers it approaches the exact McNemar value; its use is scores such as losses per item.
    """
    difference = _differences(a, b)
    rng = np.random.default_rng(seed)
    observed = abs(difference.sum())
    chunk = max(1, _MAX_CELLS // len(difference))
    as_far = 0
    for start in range(0, num_resamples, chunk):
        signs = rng.integers(0, 2, (min(chunk, num_resamples - start), len(difference)), dtype=np.int8) * 2.0 - 1
        as_far += int((np.abs(signs @ difference) >= observed - 1e-12).sum())
    return (1 + as_far) / (1 + num_resamples)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction: p-values that may be read together at one family-wise error rate."""
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = running
    return tuple(corrected.tolist())
