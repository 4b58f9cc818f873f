"""The chunked cross entropy is the plain one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from steerline.training import cross_entropy
from steerline.training.cross_entropy import cross_entropy_sum


@pytest.fixture(params=[1, 70, 10**9])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", request.param)


def sample(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = (10 * torch.randn(13, 32, generator=generator)).to(dtype).requires_grad_()
    return logits, torch.randint(32, (13,), generator=generator)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_value_and_gradient_equal_the_plain_form(dtype: torch.dtype) -> None:
    logits, targets = sample(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    plain = functional.cross_entropy(logits.to(wide), targets, reduction="sum")
    (expected,) = torch.autograd.grad(3 * plain, logits)
    total = cross_entropy_sum(logits, targets)
    (grad,) = torch.autograd.grad(3 * total, logits)
    torch.testing.assert_close(total, plain, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad, expected, rtol=1e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-6)


@pytest.mark.usefixtures("chunk")
def test_gradient_is_that_of_finite_differences() -> None:
    logits, targets = sample(torch.float64)
    assert torch.autograd.gradcheck(lambda x: cross_entropy_sum(x, targets), logits)


def test_no_tokens_cost_nothing_and_still_give_a_gradient() -> None:
    logits = torch.zeros(0, 32, requires_grad=True)
    total = cross_entropy_sum(logits, torch.zeros(0, dtype=torch.long))
    total.backward()
    assert total.item() == 0
    assert logits.grad is not None


def test_backward_leaves_the_logits_as_they_were() -> None:
    logits, targets = sample(torch.float32)
    before = logits.detach().clone()
    cross_entropy_sum(logits, targets).backward()
    assert torch.equal(logits, before)
