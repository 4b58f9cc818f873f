"""SAFR's importance term against the pairwise formula; its gradient; padding, weights and inputs without a pair."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from steerline.errors import SteeringError
from steerline.steering import importance_loss, safr_importance
from steerline.steering.safr_importance import VARIANTS, importance_sum
from tests.unit.steering.safr_formulas import reference_importance, token_interferences

MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 1, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)


def vectors(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("T", "E"), [(5, 32), (32, 32), (40, 6), (300, 16), (300, 300), (1, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reference_is_the_published_formula_with_its_gradient(T: int, E: int, dtype: torch.dtype) -> None:
    x = vectors(2, T, E, dtype=dtype).requires_grad_()
    expected = reference_importance(x)
    found = importance_loss(x)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)
    if T > 1:  # autograd has no gradient of sqrt at 0
        mine, naive = torch.autograd.grad(found, x)[0], torch.autograd.grad(expected, x)[0]
        torch.testing.assert_close(mine, naive, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=tolerance)


@pytest.mark.parametrize(("T", "E"), [(7, 40), (40, 7), (600, 33)])
def test_the_moment_form_equals_the_pairwise_form(T: int, E: int) -> None:
    y, c = vectors(2, T, E, dtype=torch.float32), vectors(2, T, seed=1, dtype=torch.float32)
    roots, pulls = safr_importance.roots_by_moments(y), safr_importance.pull_by_moments(y, c)
    torch.testing.assert_close(roots, safr_importance.roots_by_pairs(y), rtol=1e-6, atol=1e-6)
    # Sums of T terms of either sign: the pairwise form's own rounding.
    torch.testing.assert_close(pulls, safr_importance.pull_by_pairs(y, c), rtol=1e-4, atol=1e-4 * math.sqrt(T))


def test_the_moment_form_sees_no_interference_among_orthogonal_tokens() -> None:
    # Two near numbers are subtracted there; in float32 their difference would be rounding, 3e-4 of the vectors.
    y = 16 * torch.linalg.qr(vectors(8, 8))[0].float()[None]
    assert safr_importance.roots_by_moments(y).max() < 1e-4
    assert safr_importance.roots_by_pairs(y).max() < 1e-4


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("variant", ["masked", "cosine"])
def test_only_valid_tokens_interfere_and_count(variant: Any, center: bool) -> None:
    x, weights = vectors(4, 6, 5).requires_grad_(), vectors(4, 6, seed=1).abs()
    found = importance_sum(x, MASK, weights, variant=variant, center=center)
    rows = [token_interferences(row[valid], variant, center) for row, valid in zip(x[:3], MASK, strict=False)]
    expected = sum((rows[b] * weights[b][MASK[b]]).sum() for b in range(2))  # the third row has one token
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(found, x)[0], torch.autograd.grad(expected, x)[0], rtol=1e-10, atol=1e-12
    )


def test_the_loss_is_the_mean_over_valid_tokens_or_their_weights() -> None:
    x, weights = vectors(4, 6, 5), vectors(4, 6, seed=1).abs()
    total = importance_sum(x, MASK, variant="masked")
    torch.testing.assert_close(importance_loss(x, MASK, variant="masked"), total / 8)
    total = importance_sum(x, MASK, weights, variant="masked")
    torch.testing.assert_close(importance_loss(x, MASK, weights, "masked"), total / weights[MASK].sum())


def test_the_reference_does_not_look_at_the_mask() -> None:
    x = vectors(4, 6, 5)
    torch.testing.assert_close(importance_loss(x, MASK), reference_importance(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(importance_sum(x, MASK, variant="reference") / 24, reference_importance(x))


@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_gradient_is_that_of_finite_differences(
    variant: Any, center: bool, moments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safr_importance, "_MOMENT_RATIO", 0 if moments else 100)
    x, weights = vectors(4, 6, 4).requires_grad_(), vectors(4, 6, seed=1).abs().requires_grad_()

    def loss(x: Tensor, weights: Tensor) -> Tensor:
        return importance_sum(x, MASK, weights, variant=variant, center=center)

    # Where a row has a single token its root is 0, and finite differences of a root at 0 see no slope at all.
    assert torch.autograd.gradcheck(loss, (x, weights))
    assert torch.autograd.gradcheck(lambda x: importance_loss(x, MASK, variant=variant), x)


@pytest.mark.parametrize("variant", ["masked", "cosine"])
def test_ninety_percent_padding_changes_nothing(variant: Any) -> None:
    x = vectors(3, 7, 16, dtype=torch.float32).requires_grad_()
    padded = torch.cat([x, 100 * vectors(3, 63, 16, seed=1, dtype=torch.float32)], 1)
    mask = torch.arange(70).expand(3, 70) < 7
    plain, found = importance_loss(x, variant=variant), importance_loss(padded, mask, variant=variant)
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=0)
    mine, expected = torch.autograd.grad(found, x)[0], torch.autograd.grad(plain, x)[0]
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-7)


def test_nan_on_padding_stays_there() -> None:
    x = vectors(4, 6, 5).masked_fill(~MASK[..., None], torch.nan).requires_grad_()
    loss = importance_loss(x, MASK, variant="masked")
    loss.backward()
    assert x.grad is not None
    assert loss.isfinite()
    assert (x.grad[~MASK] == 0).all()
    assert x.grad.isfinite().all()


def test_the_cosine_variant_does_not_see_scale() -> None:
    x = vectors(2, 6, 5)
    small = importance_loss(1e-3 * x, variant="cosine")
    torch.testing.assert_close(small, importance_loss(x, variant="cosine"), rtol=1e-12, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("T", [1, 4, 60])
@pytest.mark.parametrize("what", ["single", "zeros", "zero rows", "masked", "alike", "orthogonal", "tiny"])
def test_inputs_without_interference_have_a_value_and_a_gradient(variant: Any, center: bool, T: int, what: str) -> None:
    x, mask = vectors(2, T, 8, dtype=torch.float32), torch.ones(2, T, dtype=torch.bool)
    if what == "single":
        mask = torch.arange(T).expand(2, T) == T - 1
    elif what == "zeros":
        x = torch.zeros_like(x)
    elif what == "zero rows":
        x[:, ::2] = 0
    elif what == "masked":
        mask = torch.zeros_like(mask)
    elif what == "alike":
        x = x[:, :1].expand(2, T, 8).clone()
    elif what == "orthogonal":
        x = torch.eye(8)[torch.arange(T) % 8].expand(2, T, 8).clone()
    else:
        x = x * 1e-22
    x.requires_grad_()
    for weights in (None, torch.zeros(2, T)):
        found = importance_loss(x, mask, weights, variant=variant)
        total = importance_sum(x, mask, weights, variant=variant, center=center)
        (grad,) = torch.autograd.grad(found + total, x)
        assert found.isfinite()
        assert grad.isfinite().all()
        if variant != "reference" and (what in {"single", "zeros", "masked"} or T == 1 or weights is not None):
            assert found == total == 0
            assert (grad == 0).all()


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_an_empty_batch_gives_zero(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape, requires_grad=True)
    loss = importance_loss(x, variant="masked")
    loss.backward()
    assert loss == 0


def test_bfloat16_is_summed_in_float32() -> None:
    x = vectors(2, 50, 32, dtype=torch.bfloat16).requires_grad_()
    wide = x.detach().float().requires_grad_()
    found, expected = importance_loss(x), importance_loss(wide)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    found.backward()
    expected.backward()
    assert x.grad is not None
    assert wide.grad is not None
    assert torch.equal(x.grad, wide.grad.bfloat16())


def test_bfloat16_weights_are_added_up_in_float32() -> None:
    x, weights = vectors(2, 50, 8, dtype=torch.float32), vectors(2, 50, seed=1, dtype=torch.bfloat16).abs()
    assert torch.equal(importance_loss(x, None, weights), importance_loss(x, None, weights.float()))


def test_the_backward_pass_can_be_repeated_and_scales() -> None:
    x = vectors(2, 6, 5).requires_grad_()
    loss = importance_loss(x)
    (once,) = torch.autograd.grad(loss, x, retain_graph=True)
    (thrice,) = torch.autograd.grad(3 * loss, x)
    torch.testing.assert_close(thrice, 3 * once)


def simulated(lengths: int, padded: int, seed: int, E: int = 256, rows: int = 64) -> tuple[float, float]:
    """Reference loss at the initial scale, and the part of the real tokens (their interference with padding included).

    Embeddings are N(0, 1) * sqrt(E), PAD's row included; a mask keeps each position with probability .5.
    """
    generator = torch.Generator().manual_seed(seed)
    x = math.sqrt(E) * torch.randn(rows, padded, E, generator=generator)
    x[:, lengths:] = math.sqrt(E) * torch.randn(E, generator=generator)
    x = x * (torch.rand(rows, padded, 1, generator=generator) < 0.5)
    real = (torch.arange(padded).expand(rows, padded) < lengths).float()
    share = importance_sum(x, real.bool(), real, variant="reference") / (rows * padded)
    return importance_loss(x).item(), share.item()


@pytest.mark.parametrize(
    ("lengths", "padded", "total", "real"), [(19, 128, 51.2, 0.49), (200, 256, 13.8, 4.3)], ids=["SST-2", "IMDB"]
)
def test_padding_dominates_the_reference_as_the_notes_say(lengths: int, padded: int, total: float, real: float) -> None:
    found = simulated(lengths, padded, seed=0)
    assert found == pytest.approx((total, real), rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 4)}, "wrong shape"),
        ({"x": torch.zeros(2, 3, 4, dtype=torch.long)}, "floating point"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, "mask does not fit"),
        ({"mask": torch.ones(2, 3)}, "bool"),
        ({"weights": torch.ones(3)}, "weights do not fit"),
        ({"variant": "published"}, "unknown variant"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SteeringError, match=message):
        importance_loss(**({"x": torch.zeros(2, 3, 4)} | change))
