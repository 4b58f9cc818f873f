"""SAFR's interaction from queries and keys: equal to that of the explicit attention, and nothing T x T is kept."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from steerline.errors import SteeringError
from steerline.steering import interaction_loss, probabilities, safr_interaction
from steerline.steering.safr_interaction import hidden_interaction_sum, interaction_sum
from tests.unit.steering.safr_formulas import attention_of

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0]], dtype=torch.bool)
LAYERS: list[dict[str, Any]] = [{}, {"softcap": 1.5}, {"window": 3}, {"drop_first_token": True}]
READINGS = list(itertools.product(("reference", "masked"), (False, True)))


def heads(B: int = 4, H: int = 4, kv: int = 2, T: int = 6, D: int = 3, dtype: torch.dtype = torch.float64) -> Any:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(B, H, T, D, dtype=dtype, generator=draw).requires_grad_()
    return query, torch.randn(B, kv, T, D, dtype=dtype, generator=draw).requires_grad_()


def kept_keys(mask: Tensor, drop_first_token: bool) -> Tensor:
    return mask & (mask.cumsum(-1) > 1) if drop_first_token else mask


def from_explicit(query: Tensor, key: Tensor, variant: Any, causal: bool, layer: dict[str, Any]) -> Tensor:
    rest = {name: value for name, value in layer.items() if name != "drop_first_token"}
    keys = kept_keys(MASK, "drop_first_token" in layer)
    A = attention_of(query, key, keys, 0.7, causal, **rest)
    if variant == "reference":
        return interaction_loss(A) * MASK.numel()
    if "drop_first_token" in layer:
        # The first token attends, but is not attended to: the loss of the attention as it is, on the valid rows.
        A = A * (MASK & (MASK.sum(-1, keepdim=True) > 1))[:, None, :, None]
    return interaction_loss(A, MASK, variant, causal) * MASK.sum()


@pytest.mark.parametrize("chunk", [1, 150, 1 << 20])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("variant", "causal"), READINGS)
def test_it_equals_the_loss_of_the_explicit_attention(
    variant: Any, causal: bool, layer: dict[str, Any], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(probabilities._CHUNK, "cpu", chunk)
    query, key = heads()
    found = interaction_sum(query, key, MASK, scaling=0.7, causal=causal, variant=variant, **layer)
    expected = from_explicit(query, key, variant, causal, layer)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    mine, naive = torch.autograd.grad(2 * found, (query, key)), torch.autograd.grad(2 * expected, (query, key))
    torch.testing.assert_close(mine, naive, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("variant", "causal"), READINGS)
def test_the_gradient_is_that_of_finite_differences(variant: Any, causal: bool, layer: dict[str, Any]) -> None:
    # Whole, padded on either side, and a single token, in as few numbers as that takes: each is moved twice.
    mask = MASK[:, 1:5]
    query, key = heads(H=2, kv=1, T=4, D=2)
    hidden = torch.randn(4, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    rest = {"scaling": 0.7, "causal": causal, "variant": variant, **layer}
    assert torch.autograd.gradcheck(lambda q, k: interaction_sum(q, k, mask, **rest), (query, key))
    assert torch.autograd.gradcheck(lambda h, q, k: hidden_interaction_sum(h, q, k, mask, **rest), (hidden, query, key))


@pytest.mark.parametrize("chunk", [1, 150, 1 << 20])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("variant", "causal"), READINGS)
def test_the_hidden_form_is_the_attention_weighted_distance_of_vectors(
    variant: Any, causal: bool, layer: dict[str, Any], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(probabilities._CHUNK, "cpu", chunk)
    query, key = heads()
    hidden = torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    hidden[0, 2] = 0
    found = hidden_interaction_sum(hidden, query, key, MASK, scaling=0.7, causal=causal, variant=variant, **layer)
    rest = {name: value for name, value in layer.items() if name != "drop_first_token"}
    A = attention_of(query, key, kept_keys(MASK, "drop_first_token" in layer), 0.7, causal, **rest).mean(1)
    cosine = torch.nn.functional.cosine_similarity(hidden[:, :, None], hidden[:, None], dim=-1)
    distance = (1 - cosine.abs()) * (1 - torch.eye(6))
    rows = (A * distance).sum(-1)
    expected = rows.sum() / 5 if variant == "reference" else rows[MASK].sum()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_and_what_stands_on_it_change_nothing(causal: bool) -> None:
    query, key = heads(B=2, dtype=torch.float32)
    hidden = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    rest: dict[str, Any] = {"scaling": 0.7, "causal": causal}

    def padded(x: Tensor, dim: int) -> Tensor:
        shape = list(x.shape)
        shape[dim] = 54
        return torch.cat([x, torch.full(shape, 50.0)], dim).detach().requires_grad_()

    far, mask = [padded(query, 2), padded(key, 2)], torch.arange(60).expand(2, 60) < 6
    everything = torch.ones(2, 6, dtype=torch.bool)
    found, plain = interaction_sum(*far, mask, **rest), interaction_sum(query, key, everything, **rest)
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=0)
    mine, expected = torch.autograd.grad(found, far), torch.autograd.grad(plain, (query, key))
    for long, short in zip(mine, expected, strict=True):
        torch.testing.assert_close(long[:, :, :6], short, rtol=1e-5, atol=1e-7)
        assert (long[:, :, 6:] == 0).all()
    torch.testing.assert_close(
        hidden_interaction_sum(padded(hidden, 1), *far, mask, **rest),
        hidden_interaction_sum(hidden, query, key, everything, **rest),
        rtol=1e-6, atol=0,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("variant", "causal"), READINGS)
@pytest.mark.parametrize("mask", [torch.zeros(4, 6), torch.arange(6).expand(4, 6) == 2])
def test_rows_without_pairs_have_a_value_and_a_gradient(
    variant: Any, causal: bool, layer: dict[str, Any], dtype: torch.dtype, mask: Tensor
) -> None:
    query, key = heads(dtype=dtype)
    hidden = torch.zeros(4, 6, 3, dtype=dtype, requires_grad=True)
    rest = {"scaling": 0.7, "causal": causal, "variant": variant, **layer}
    found = interaction_sum(query, key, mask.bool(), **rest)
    other = hidden_interaction_sum(hidden, query, key, mask.bool(), **rest)
    grads = torch.autograd.grad(found + other, (query, key, hidden))
    assert found.dtype == torch.float32
    assert found.isfinite()
    assert other.isfinite()
    assert all(grad.isfinite().all() and grad.dtype == dtype for grad in grads)
    if variant == "masked":
        assert found == other == 0


def test_a_later_token_does_not_move_the_causal_rows_before_it() -> None:
    query, key = heads(B=1)
    changed = query.detach().clone(), key.detach().clone()
    for x in changed:
        x[:, :, 4:] += 1
    for end, same in ((4, True), (5, False)):
        mask = torch.ones(1, end, dtype=torch.bool)
        before = interaction_sum(query[:, :, :end], key[:, :, :end], mask, scaling=0.7, causal=True)
        after = interaction_sum(*(x[:, :, :end] for x in changed), mask, scaling=0.7, causal=True)
        assert torch.equal(before, after) is same


def test_without_a_gradient_only_the_value_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = heads()
    hidden = torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rest: dict[str, Any] = {"scaling": 0.7, "causal": False}
    expected = interaction_sum(query, key, MASK, **rest), hidden_interaction_sum(hidden, query, key, MASK, **rest)
    monkeypatch.delattr(safr_interaction, "back_to_heads")
    query, key = query.detach(), key.detach()
    found = interaction_sum(query, key, MASK, **rest), hidden_interaction_sum(hidden, query, key, MASK, **rest)
    assert found == expected


def test_nothing_of_size_t_by_t_waits_for_the_backward_pass() -> None:
    query, key = heads(B=1, T=64, D=4)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        total = interaction_sum(query, key, torch.ones(1, 64, dtype=torch.bool), scaling=0.7, causal=True)
    assert sum(kept) == query.numel() + key.numel()
    once = torch.autograd.grad(total, (query, key), retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(2 * total, (query, key)), tuple(2 * grad for grad in once))


@pytest.mark.parametrize("shapes", [[(2, 4, 6, 3), (2, 3, 6, 3), (2, 6)], [(2, 4, 6, 3), (2, 4, 5, 3), (2, 6)],
                                    [(2, 4, 6, 3), (2, 4, 6, 3), (2, 5)]])  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(shapes: list[tuple[int, ...]]) -> None:
    query, key, mask = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(SteeringError, match="do not fit"):
        interaction_sum(query, key, mask.bool(), scaling=1.0, causal=False)


@pytest.mark.parametrize("form", ["attention", "heads", "hidden"])
def test_autocast_lowers_no_sum(form: str) -> None:
    query, key = (tensor.detach().float().requires_grad_() for tensor in heads(T=6))
    hidden = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    rest: dict[str, Any] = {"scaling": 0.7, "causal": False}
    inputs, loss = {
        "attention": ((attention_of(query, key, MASK, 0.7, False).detach().requires_grad_(),), interaction_loss),
        "heads": ((query, key), lambda q, k: interaction_sum(q, k, MASK, **rest)),
        "hidden": ((hidden, query, key), lambda h, q, k: hidden_interaction_sum(h, q, k, MASK, **rest)),
    }[form]
    plain = loss(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(*inputs)
        mine = torch.autograd.grad(found, inputs)
    torch.testing.assert_close((found, mine), (plain, torch.autograd.grad(plain, inputs)), rtol=0, atol=0)
