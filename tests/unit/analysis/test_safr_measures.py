from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from steerline.analysis.safr.measures import (
    centred,
    interaction_scores,
    interference,
    interference_attention_correlation,
    interference_attention_correlations,
    interference_gap,
    interference_gaps,
    is_important,
    squared_interference,
    token_capacity,
)
from steerline.errors import EvaluationError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 7, 5))
MASK = np.arange(7) < np.array([7, 4, 1])[:, None]


def attention(shape: tuple[int, ...], seed: int = 1) -> NDArray[np.float64]:
    raw = np.random.default_rng(seed).random(shape)
    return np.asarray(raw / raw.sum(-1, keepdims=True))


def test_interference_is_0_for_orthogonal_tokens_and_1_for_one_direction() -> None:
    assert interference(np.eye(4)) == pytest.approx(0)
    assert interference(np.outer([1.0, -2.0, 3.0], [1.0, 2.0])) == pytest.approx(1)


def test_interference_equals_the_formula_worked_by_hand() -> None:
    x = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])  # cosines: 1/sqrt 2, 0, 1/sqrt 2
    assert interference(x) == pytest.approx([(0.5 / 2) ** 0.5, (1.0 / 2) ** 0.5, (0.5 / 2) ** 0.5])
    assert interference(x, causal=True) == pytest.approx([0, 0.5**0.5, (0.5 / 2) ** 0.5])


def test_interference_does_not_depend_on_lengths_however_extreme() -> None:
    scales = np.array([1e-200, 1e200, 1.0, 5.0, 1e-3, 1e30, 2.0])[:, None]
    assert interference(X * scales) == pytest.approx(interference(X))
    assert token_capacity(X * 1e150) == pytest.approx(token_capacity(X))
    assert token_capacity(X * 1e-150) == pytest.approx(token_capacity(X))


@pytest.mark.parametrize("filler", [0.0, 1e9, np.nan, np.inf])
def test_padding_never_counts(filler: float) -> None:
    x = np.where(MASK[..., None], X, filler)
    a = np.where(MASK[:, :, None] & MASK[:, None, :], attention((3, 7, 7)), filler)
    importance = np.where(MASK, X[..., 0], filler)
    for row, size in enumerate((7, 4, 1)):
        short = x[row, :size]
        assert interference(x, MASK)[row, :size] == pytest.approx(interference(short))
        assert token_capacity(x, MASK)[row, :size] == pytest.approx(token_capacity(short))
        assert centred(x, MASK)[row, :size] == pytest.approx(centred(short))
        assert interaction_scores(x, a, MASK)[row, :size] == pytest.approx(
            interaction_scores(short, a[row, :size, :size])
        )
        for values in (interference(x, MASK), token_capacity(x, MASK), interaction_scores(x, a, MASK)):
            assert not values[row, size:].any()
    assert interference_gaps(interference(x, MASK), importance, MASK) == pytest.approx(
        [interference_gap(interference(X[row, :size]), X[row, :size, 0]) for row, size in ((0, 7), (1, 4))]
    )
    assert interference_attention_correlations(x, a, MASK) == pytest.approx(
        [interference_attention_correlation(X[row, :n], a[row, :n, :n]) for row, n in ((0, 7), (1, 4))]
    )


def test_one_token_and_zero_vectors_have_defined_values() -> None:
    assert interference([[3.0, 4.0]]) == pytest.approx([0])
    assert token_capacity([[3.0, 4.0]]) == pytest.approx([1])
    with_zero = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert interference(with_zero) == pytest.approx([0.5**0.5, 0, 0.5**0.5])
    assert token_capacity(with_zero) == pytest.approx([0.5, 0, 0.5])
    assert token_capacity(np.zeros((3, 2))) == pytest.approx(0)
    assert squared_interference(np.zeros((3, 2))) == pytest.approx(0)


def test_capacity_equals_the_formula_worked_by_hand() -> None:
    h = np.array([[1.0, 0.0], [1.0, 1.0]])  # squares of products: 1, 1; 1, 4
    assert token_capacity(h) == pytest.approx([1 / 2, 4 / 5])
    assert token_capacity(np.ones((5, 3))) == pytest.approx(1 / 5)
    assert token_capacity(np.eye(6)) == pytest.approx(1)


def test_a_value_that_is_not_finite_and_shapes_that_do_not_fit_are_refused() -> None:
    broken = X.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(EvaluationError, match="not finite"):
        interference(broken)
    with pytest.raises(EvaluationError, match="do not fit"):
        interference(X, MASK[:, :5])
    with pytest.raises(EvaluationError, match="vectors are needed"):
        token_capacity(np.zeros((0, 4)))
    with pytest.raises(EvaluationError, match="do not fit"):
        interference_attention_correlation(X, attention((3, 7, 6)))
    with pytest.raises(EvaluationError, match="not finite"):
        is_important([np.nan, 1.0], [True, True])
    with pytest.raises(EvaluationError, match="not finite"):
        interference_attention_correlation(X[0], np.full((7, 7), np.nan))


def test_tokens_above_their_own_sequences_median_are_important() -> None:
    importance = np.array([[1.0, 2.0, 3.0, 4.0], [10.0, 30.0, 20.0, 99.0]])
    real = np.array([[True] * 4, [True] * 3 + [False]])
    assert is_important(importance, real).tolist() == [[False, False, True, True], [False, True, False, False]]
    assert is_important(importance, real, threshold=3.5).tolist() == [[False] * 3 + [True], [True] * 3 + [False]]


def test_the_gap_is_positive_where_important_tokens_interfere_less() -> None:
    values, importance = [0.9, 0.7, 0.2, 0.4], [0.1, 0.2, 0.8, 0.9]
    assert interference_gap(values, importance) == pytest.approx(0.8 - 0.3)
    assert interference_gap(values, importance, threshold=0.85) == pytest.approx(0.6 - 0.4)


def test_equal_importances_split_nothing_and_are_left_out_or_refused() -> None:
    values = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert interference_gaps(values, [[1.0, 1.0], [0.0, 1.0]]) == pytest.approx([0.8])
    with pytest.raises(EvaluationError, match="both important and unimportant"):
        interference_gap(values, np.ones((2, 2)))


@pytest.mark.parametrize("causal", [False, True])
def test_the_correlation_is_spearmans_over_the_valid_pairs(causal: bool) -> None:
    a = attention((7, 7))
    pairs = np.tri(7, k=-1, dtype=bool) if causal else ~np.eye(7, dtype=bool)
    lengths = np.linalg.norm(X[0], axis=1)
    cosines = X[0] @ X[0].T / np.outer(lengths, lengths)
    expected = spearmanr((cosines**2)[pairs], a[pairs]).statistic
    assert interference_attention_correlation(X[0], a, causal=causal) == pytest.approx(expected)


def test_causal_pairs_leave_out_what_no_token_can_attend_to() -> None:
    a = attention((7, 7))
    other = np.where(np.tri(7, k=-1, dtype=bool), a, 0.123)
    for measure in (interference_attention_correlation, interaction_scores):
        assert measure(X[0], a, causal=True) == pytest.approx(measure(X[0], other, causal=True))


def test_sequences_without_a_rank_correlation_are_left_out_or_refused() -> None:
    x = np.stack([X[0], np.ones((7, 5))])
    assert len(interference_attention_correlations(x, attention((2, 7, 7)))) == 1
    assert len(interference_attention_correlations(X[:1], np.full((1, 7, 7), 1 / 7))) == 0
    with pytest.raises(EvaluationError, match="no sequence has a rank correlation"):
        interference_attention_correlation(X[0, :2], attention((2, 2)), causal=True)


def test_interaction_scores_weigh_interference_by_attention_in_both_directions() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    a = np.array([[0.5, 0.3, 0.2], [0.6, 0.2, 0.2], [0.1, 0.2, 0.7]])
    assert interaction_scores(x, a) == pytest.approx([(0.3 + 0.6) / 2, (0.3 + 0.6) / 2, 0])
    assert interaction_scores(x, a, causal=True) == pytest.approx([0.3, 0.3, 0])


def test_centring_removes_the_mean_of_the_real_tokens() -> None:
    assert centred(X, MASK)[0].mean(0) == pytest.approx(0)
    assert centred(X, MASK)[1, :4].mean(0) == pytest.approx(0, abs=1e-12)
    assert not centred(X, MASK)[1, 4:].any()
