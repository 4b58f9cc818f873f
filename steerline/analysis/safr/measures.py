"""What SAFR is judged by: interference between tokens, its tie to attention, and tokens' capacity.

The paper reports a score whose definition is not known. These measures are our stand-ins, each under its own name;
none of them is that score. Everything here is a pure function of arrays in float64.

Legend: T tokens of a sequence, E or F width of their vectors. `...` stands for any leading dimensions. A mask [..., T]
is true at real tokens; padding never counts, neither as a token nor as another's neighbour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from steerline.errors import EvaluationError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def valid_pairs(mask: Bools, *, causal: bool = False) -> Bools:
    """[..., T, T] bool: true where i and k are two different real tokens; with `causal`, only for k < i."""
    size = mask.shape[-1]
    apart = np.tri(size, k=-1, dtype=bool) if causal else ~np.eye(size, dtype=bool)
    pairs: Bools = mask[..., :, None] & mask[..., None, :] & apart
    return pairs


def squared_interference(x: ArrayLike, mask: ArrayLike | None = None, *, causal: bool = False) -> Floats:
    """(xhat_i . xhat_k)^2 for every valid pair, 0 elsewhere [..., T, T]; xhat is x over its length.

    A vector of length 0 has no direction and interferes with nothing.

    Args:
        x: tokens' vectors [..., T, E].
        mask: real tokens [..., T]; all by default.
        causal: only pairs k < i.

    Raises:
        EvaluationError: a value at a real token is not finite, or shapes do not fit.
    """
    vectors, real = _vectors(x, mask)
    directions = _directions(vectors)
    cosines = directions @ np.swapaxes(directions, -1, -2)
    squares: Floats = np.where(valid_pairs(real, causal=causal), cosines**2, 0.0)
    return squares


def interference(x: ArrayLike, mask: ArrayLike | None = None, *, causal: bool = False) -> Floats:
    """How much each token shares its direction with the others, in 0..1 [..., T].

    sqrt(sum_{j != i} (xhat_i . xhat_j)^2 / (n - 1)) over the n real tokens: 0 where all are orthogonal, 1 where all
    point the same way or opposite. With `causal` the sum and its count are over j < i. A token without others has 0,
    and so has padding. It does not depend on the vectors' lengths.

    Args:
        x: tokens' vectors [..., T, E].
        mask: real tokens [..., T]; all by default.
        causal: only tokens before i.

    Raises:
        EvaluationError: as `squared_interference`.
    """
    vectors, real = _vectors(x, mask)
    others = valid_pairs(real, causal=causal).sum(-1)
    mean: Floats = squared_interference(vectors, real, causal=causal).sum(-1) / np.maximum(others, 1)
    return np.sqrt(mean)


def centred(x: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """The vectors [..., T, E] less their mean over the real tokens; padding becomes 0.

    Hidden states of language models share a direction, which otherwise decides every cosine.

    Raises:
        EvaluationError: as `squared_interference`.
    """
    vectors, real = _vectors(x, mask)
    count = np.maximum(real.sum(-1), 1)[..., None, None]
    mean = vectors.sum(-2, keepdims=True) / count
    shifted: Floats = np.where(real[..., None], vectors - mean, 0.0)
    return shifted


def token_capacity(h: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """D_i = (h_i . h_i)^2 / sum_j (h_i . h_j)^2 in 0..1 [..., T]: the share of its own direction a token has to itself.

    Capacity of Scherlis et al. (2022), dimensionality of Elhage et al. (2022), with the tokens of one sequence in
    place of features. 1 for a token orthogonal to all others or alone; 1/n where n tokens coincide; 0 for a vector of
    length 0 and for padding.

    Args:
        h: tokens' vectors [..., T, F], such as FFN keys or block outputs.
        mask: real tokens [..., T]; all by default.

    Raises:
        EvaluationError: as `squared_interference`.
    """
    vectors, real = _vectors(h, mask)
    # D_i is free of h_i's own scale; the common scale is taken out so that squares neither overflow nor vanish.
    largest = np.abs(vectors).max(axis=(-1, -2), keepdims=True)
    vectors = np.divide(vectors, largest, out=np.zeros_like(vectors), where=largest > 0)
    directions = _directions(vectors)
    products = (directions @ np.swapaxes(vectors, -1, -2)) ** 2
    own = np.square(vectors).sum(-1)
    total = products.sum(-1)
    capacity: Floats = np.divide(own, total, out=np.zeros_like(own), where=(total > 0) & real)
    return capacity


def is_important(importance: ArrayLike, mask: ArrayLike, threshold: float | None = None) -> Bools:
    """[..., T] bool: real tokens above `threshold`, by default above the median of their sequence's real tokens.

    Ties with the median are unimportant, so a sequence of equal importances has no important token.

    Raises:
        EvaluationError: an importance at a real token is not finite, or shapes do not fit.
    """
    real = np.asarray(mask, dtype=bool)
    values = np.asarray(importance, dtype=np.float64)
    _same_shape("importance", values, real)
    _finite("importance", values[real])
    if threshold is not None:
        return real & (values > threshold)
    rows = np.where(real, values, np.nan).reshape(-1, real.shape[-1])
    medians = np.array([np.median(row[~np.isnan(row)]) if (~np.isnan(row)).any() else 0.0 for row in rows])
    return real & (values > medians.reshape(real.shape[:-1])[..., None])


def interference_gaps(
    interferences: ArrayLike,
    importance: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    threshold: float | None = None,
) -> Floats:
    """Mean interference of unimportant minus that of important tokens, for each sequence that has both [S'].

    Above 0 the important tokens share their direction less, which is what SAFR aims at.

    Args:
        interferences: of each token [..., T], from `interference`.
        importance: of each token [..., T], in any unit.
        mask: real tokens [..., T]; all by default.
        threshold: what is important; by default what is above the median of its own sequence.

    Raises:
        EvaluationError: a value at a real token is not finite, or shapes do not fit.
    """
    values = np.asarray(interferences, dtype=np.float64)
    real = _mask(mask, values.shape)
    _same_shape("interference", values, real)
    _finite("interference", values[real])
    important = is_important(importance, real, threshold)
    rows = zip(*(array.reshape(-1, real.shape[-1]) for array in (values, important, real & ~important)), strict=True)
    return np.array([row[low].mean() - row[high].mean() for row, high, low in rows if high.any() and low.any()])


def interference_gap(
    interferences: ArrayLike,
    importance: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    threshold: float | None = None,
) -> float:
    """The mean over sequences of `interference_gaps`.

    Raises:
        EvaluationError: no sequence has both important and unimportant tokens; else as `interference_gaps`.
    """
    gaps = interference_gaps(interferences, importance, mask, threshold=threshold)
    if not len(gaps):
        raise EvaluationError(
            "no sequence has both important and unimportant tokens",
            got="one token a sequence, or importances that are all equal",
            fix="measure longer sequences, or pass a threshold",
        )
    return float(gaps.mean())


def interference_attention_correlations(
    x: ArrayLike, attention: ArrayLike, mask: ArrayLike | None = None, *, causal: bool = False
) -> Floats:
    """Spearman correlation of interference_ik^2 with A_ik over a sequence's valid pairs (i, k), for each sequence [S'].

    Above 0, tokens that attend to each other share directions, which is what SAFR's interaction term aims at. Sequences
    in which either side is constant over the pairs, or that have fewer than 3 pairs, have no correlation and are left
    out.

    Args:
        x: tokens' vectors [..., T, E].
        attention: probabilities [..., T, T], rows are queries; averaged over heads beforehand.
        mask: real tokens [..., T]; all by default.
        causal: only pairs k < i. A causal model's other pairs have A = 0 by construction.

    Raises:
        EvaluationError: a value at a valid pair is not finite, or shapes do not fit.
    """
    vectors, real = _vectors(x, mask)
    pairs = valid_pairs(real, causal=causal)
    weights = np.asarray(attention, dtype=np.float64)
    _same_shape("attention", weights, pairs)
    _finite("attention", weights[pairs])
    squares = squared_interference(vectors, real, causal=causal)
    size = real.shape[-1]
    found = [
        _spearman(square[pair], weight[pair])
        for square, weight, pair in zip(
            *(array.reshape(-1, size, size) for array in (squares, weights, pairs)), strict=True
        )
    ]
    return np.array([value for value in found if value is not None])


def interference_attention_correlation(
    x: ArrayLike, attention: ArrayLike, mask: ArrayLike | None = None, *, causal: bool = False
) -> float:
    """The mean over sequences of `interference_attention_correlations`.

    Raises:
        EvaluationError: no sequence has a correlation; else as `interference_attention_correlations`.
    """
    found = interference_attention_correlations(x, attention, mask, causal=causal)
    if not len(found):
        raise EvaluationError(
            "no sequence has a rank correlation",
            got="fewer than 3 pairs of tokens a sequence, or constant interference or attention",
            fix="measure longer sequences",
        )
    return float(found.mean())


def interaction_scores(
    x: ArrayLike, attention: ArrayLike, mask: ArrayLike | None = None, *, causal: bool = False
) -> Floats:
    """How much a token takes part in shared directions that attention uses [..., T]; ranks tokens for deletion.

    s_i = sum_{k != i} (A_ik + A_ki) / 2 * (xhat_i . xhat_k)^2. This form is inferred: no source defines one.

    Args:
        x, attention, mask: as `interference_attention_correlations`.
        causal: count each pair k < i for both of its tokens.

    Raises:
        EvaluationError: as `interference_attention_correlations`.
    """
    vectors, real = _vectors(x, mask)
    pairs = valid_pairs(real, causal=causal)
    weights = np.asarray(attention, dtype=np.float64)
    _same_shape("attention", weights, pairs)
    _finite("attention", weights[pairs])
    tied = np.where(pairs, weights, 0.0) * squared_interference(vectors, real, causal=causal)
    scores: Floats = (tied.sum(-1) + tied.sum(-2)) / 2
    return scores


def _spearman(a: Floats, b: Floats) -> float | None:
    # Cosines of one direction with itself differ in the last bits; those are no ranks.
    ranks = [rankdata(np.round(values, 12)) for values in (a, b)]
    if len(a) < 3 or any(rank.min() == rank.max() for rank in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _directions(vectors: Floats) -> Floats:
    # Scaled first: squares of very large or small entries would leave the range of floats.
    largest = np.abs(vectors).max(-1, keepdims=True)
    scaled = np.divide(vectors, largest, out=np.zeros_like(vectors), where=largest > 0)
    lengths = np.linalg.norm(scaled, axis=-1, keepdims=True)
    directions: Floats = np.divide(scaled, lengths, out=np.zeros_like(scaled), where=lengths > 0)
    return directions


def _vectors(x: ArrayLike, mask: ArrayLike | None) -> tuple[Floats, Bools]:
    """The vectors in float64 with 0 at padding, and the mask."""
    vectors = np.asarray(x, dtype=np.float64)
    if vectors.ndim < 2 or 0 in vectors.shape[-2:]:
        raise EvaluationError("tokens' vectors are needed", got=f"shape {vectors.shape}", expected="[..., T, E]")
    real = _mask(mask, vectors.shape[:-1])
    _same_shape("mask", real, vectors[..., 0])
    _finite("vectors", vectors[real])
    return np.where(real[..., None], vectors, 0.0), real


def _mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> Bools:
    return np.ones(shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)


def _same_shape(name: str, array: NDArray[np.generic], like: NDArray[np.generic]) -> None:
    if array.shape != like.shape:
        raise EvaluationError("the shapes do not fit", where=name, got=array.shape, expected=like.shape)


def _finite(name: str, values: Floats) -> None:
    if not np.isfinite(values).all():
        raise EvaluationError(
            "a value is not finite", where=name, fix="check the model's activations and its precision"
        )
