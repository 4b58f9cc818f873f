"""SAFR's interaction term against the plain formulas: values by hand, gradients, masks, supports, no pairs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from steerline.errors import SteeringError
from steerline.steering import interaction_loss
from steerline.steering.overlap import causal_overlap, overlap
from tests.unit.steering.safr_formulas import masked_interactions, reference_interaction

MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
FORMS = [("reference", False), ("masked", False), ("masked", True)]


def attention(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, causal: bool = False) -> Tensor:
    """Softmax of random logits [..., T], T x T where the shape says so."""
    logits = 2 * torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    if causal:
        logits = logits.masked_fill(~torch.ones(shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return logits.softmax(-1)


@pytest.mark.parametrize(("L", "n", "value"), [(128, 19, 0.0074045), (256, 200, 0.0038868)])
def test_uniform_attention_over_some_keys_has_the_known_value(L: int, n: int, value: float) -> None:
    A = (torch.arange(L) < n).double().expand(1, 2, L, L) / n
    assert interaction_loss(A).item() == pytest.approx(value, abs=5e-8)
    assert interaction_loss(A).item() == pytest.approx((1 - (L - 1) / (n * L)) / L, rel=1e-12)
    masked = interaction_loss(A, torch.arange(L).expand(1, L) < n, "masked")
    assert masked.item() == pytest.approx(1 - (n - 1) / n**2, rel=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_three_tokens_worked_by_hand(causal: bool) -> None:
    A = torch.tensor([[[[1.0, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]]]], dtype=torch.float64)
    # G_10 = 1/2, G_20 = 1/4, G_21 = 1/4; on the common support rows 1 and 2 give G_10 = 1, G_20 = 1, G_21 = 1/2.
    rows = [0, 0, 0.25 * 0.5] if causal else [1, 0.5 + 0.5 * 0.5, 0.5 + 0.25 * 0.75 * 2]
    assert interaction_loss(A, variant="masked", causal=causal).item() == pytest.approx(sum(rows) / 3, rel=1e-12)


@pytest.mark.parametrize("T", [1, 2, 37, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reference_is_the_published_formula_with_its_gradient(T: int, dtype: torch.dtype) -> None:
    A = (1.5 * attention(2, 3, T, T, dtype=dtype)).requires_grad_()  # rows need not sum to 1
    found, expected = interaction_loss(A), reference_interaction(A)
    torch.testing.assert_close(found, expected, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=0)
    mine, naive = torch.autograd.grad(found, A)[0], torch.autograd.grad(expected, A)[0]
    torch.testing.assert_close(mine, naive, rtol=1e-5, atol=1e-8 if dtype == torch.float32 else 1e-14)


def test_the_reference_is_at_most_one_over_the_length_and_ignores_mask_and_causality() -> None:
    A = attention(4, 2, 5, 5)
    loss = interaction_loss(A)
    assert loss <= 1 / 5
    assert torch.equal(interaction_loss(A, MASK, causal=True), loss)


def test_without_padding_the_masked_loss_is_the_reference_summed_over_keys() -> None:
    A = attention(2, 3, 9, 9)
    torch.testing.assert_close(interaction_loss(A, variant="masked"), 9 * interaction_loss(A), rtol=1e-12, atol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_only_valid_tokens_attend_and_are_attended_to(causal: bool) -> None:
    A = attention(4, 2, 5, 5).requires_grad_()
    found = interaction_loss(A, MASK, "masked", causal)
    rows = [masked_interactions(A[b, h][m][:, m], causal) for b, m in enumerate(MASK) for h in range(2) if m.any()]
    expected = torch.cat(rows).sum() / (2 * MASK.sum())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    mine, naive = torch.autograd.grad(found, A)[0], torch.autograd.grad(expected, A)[0]
    torch.testing.assert_close(mine, naive, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("variant", "causal"), FORMS)
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_gradient_is_that_of_finite_differences(variant: Any, causal: bool, is_causal: bool) -> None:
    A = attention(4, 2, 5, 5, causal=is_causal).requires_grad_()
    assert torch.autograd.gradcheck(lambda A: interaction_loss(A, MASK, variant, causal), A)


@pytest.mark.parametrize("T", [300, 520])
def test_block_by_block_equals_all_at_once(T: int, monkeypatch: pytest.MonkeyPatch) -> None:
    A, scale = attention(2, T, T, causal=True), attention(2, T, seed=1)
    blocked = [overlap(A, None, True), overlap(A, scale, True), causal_overlap(A, True)]
    monkeypatch.setattr("steerline.steering.overlap._BLOCK", T)
    whole = [overlap(A, None, True), overlap(A, scale, True), causal_overlap(A, True)]
    lower = torch.ones(T, T, dtype=torch.bool).tril()
    for (value, grad), (value_again, grad_again) in zip(blocked, whole, strict=True):
        assert grad is not None
        assert grad_again is not None
        torch.testing.assert_close(value, value_again, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(grad[:, lower], grad_again[:, lower], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("causal", [False, True])
def test_ninety_percent_padding_changes_nothing(causal: bool) -> None:
    A = attention(2, 3, 6, 6, dtype=torch.float32, causal=causal).requires_grad_()
    padded = torch.rand(2, 3, 60, 60, generator=torch.Generator().manual_seed(1))
    whole = padded.clone()
    whole[:, :, :6, :6] = A
    mask = torch.arange(60).expand(2, 60) < 6
    plain, found = interaction_loss(A, None, "masked", causal), interaction_loss(whole, mask, "masked", causal)
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=0)
    mine, expected = torch.autograd.grad(found, A)[0], torch.autograd.grad(plain, A)[0]
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-7)


def test_the_causal_loss_of_the_first_tokens_does_not_depend_on_later_ones() -> None:
    A = attention(1, 2, 8, 8, causal=True)
    first = interaction_loss(A[..., :5, :5], variant="masked", causal=True)
    mask = torch.arange(8).expand(1, 8) < 5
    other = A.clone()
    other[..., 5:, :] = attention(1, 2, 3, 8, seed=1)
    for whole in (A, other):
        torch.testing.assert_close(interaction_loss(whole, mask, "masked", True), first, rtol=1e-12, atol=0)


def test_causal_attention_to_the_earlier_tokens_in_equal_shares_overlaps_wholly_on_the_common_support() -> None:
    # Rows of any length are uniform, so on k's support row i is row k; G_ik = 1 / k for k tokens.
    A = (torch.ones(6, 6, dtype=torch.float64).tril() / torch.arange(1, 7)[:, None])[None, None]
    expected = sum(1 / i * (1 - 1 / k) for i in range(1, 7) for k in range(1, i)) / 6
    assert interaction_loss(A, variant="masked", causal=True).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("variant", "causal"), FORMS)
@pytest.mark.parametrize("what", ["single token", "single valid", "masked", "zeros", "one-hot", "faint"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_without_pairs_have_a_value_and_a_gradient(
    variant: Any, causal: bool, what: str, dtype: torch.dtype
) -> None:
    A, mask = attention(2, 3, 5, 5, dtype=torch.float32), torch.ones(2, 5, dtype=torch.bool)
    if what == "single token":
        A, mask = torch.ones(2, 3, 1, 1), mask[:, :1]
    elif what == "single valid":
        mask = torch.arange(5).expand(2, 5) == 3
    elif what == "masked":
        mask = torch.zeros_like(mask)
    elif what == "zeros":
        A = torch.zeros_like(A)
    elif what == "one-hot":
        A = torch.eye(5)[[4, 4, 1, 0, 4]].expand_as(A).clone()
    else:  # next to all attention on the diagonal: the common supports hold next to nothing
        A = (1e-38 * A).diagonal_scatter(torch.ones(2, 3, 5), dim1=-2, dim2=-1)
    A = A.to(dtype).requires_grad_()
    found = interaction_loss(A, mask, variant, causal)
    found.backward()
    assert found.isfinite()
    assert found.dtype == torch.float32
    assert A.grad is not None
    assert A.grad.dtype == dtype
    assert A.grad.isfinite().all()
    if variant == "masked" and what in {"single token", "single valid", "masked", "zeros"}:
        assert found == 0
        assert (A.grad == 0).all()


@pytest.mark.parametrize("shape", [(0, 2, 3, 3), (2, 2, 0, 0), (2, 0, 3, 3)])
@pytest.mark.parametrize(("variant", "causal"), FORMS)
def test_an_empty_batch_gives_zero(shape: tuple[int, ...], variant: Any, causal: bool) -> None:
    A = torch.zeros(shape, requires_grad=True)
    loss = interaction_loss(A, None, variant, causal)
    loss.backward()
    assert loss == 0


@pytest.mark.parametrize(("variant", "causal"), FORMS)
def test_a_graph_walked_twice_gives_the_gradient_twice(variant: Any, causal: bool) -> None:
    A = attention(2, 2, 5, 5).requires_grad_()
    loss = interaction_loss(A, None, variant, causal)
    (once,) = torch.autograd.grad(loss, A, retain_graph=True)
    kept = once.clone()
    (thrice,) = torch.autograd.grad(3 * loss, A)
    assert torch.equal(once, kept)
    torch.testing.assert_close(thrice, 3 * once, rtol=1e-12, atol=0)


def test_without_a_gradient_only_the_value_is_made() -> None:
    A = attention(2, 2, 5, 5)
    for (variant, causal), mask in itertools.product(FORMS, (None, MASK[:2])):
        plain = interaction_loss(A, mask, variant, causal)  # type: ignore[arg-type]
        assert not plain.requires_grad
        torch.testing.assert_close(plain, interaction_loss(A.clone().requires_grad_(), mask, variant, causal).detach())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": torch.zeros(2, 3, 3)}, "wrong shape"),
        ({"attention": torch.zeros(2, 1, 3, 4)}, "not square"),
        ({"attention": torch.zeros(2, 1, 3, 3, dtype=torch.long)}, "floating point"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, "mask does not fit"),
        ({"mask": torch.ones(2, 3)}, "bool"),
        ({"variant": "cosine"}, "unknown variant"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SteeringError, match=message):
        interaction_loss(**({"attention": torch.zeros(2, 1, 3, 3)} | change))
