"""The gate draws zeros and ones in training, gives probabilities in evaluation, and learns either way."""

from __future__ import annotations

import torch

from steerline.models.vmask import VmaskGate


def gate(temperature: float = 1.0) -> tuple[VmaskGate, torch.Tensor]:
    torch.manual_seed(0)
    return VmaskGate(8, 16, temperature), torch.randn(3, 5, 8)


def test_in_evaluation_the_gate_is_the_probability_of_keeping_by_the_formula() -> None:
    module, e = gate()
    module.eval()
    masked, r = module(e)
    scores = torch.tanh(e @ module.hidden.weight.T + module.hidden.bias) @ module.scores.weight.T + module.scores.bias
    expected = scores.softmax(-1)[..., 1]
    torch.testing.assert_close(r, expected)
    torch.testing.assert_close(masked, e * expected[..., None])


def test_in_training_each_token_is_kept_or_dropped() -> None:
    module, e = gate()
    masked, r = module(e)
    assert set(r.detach().unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(masked, e * r[..., None])


def test_draws_follow_the_probabilities_at_any_temperature() -> None:
    for temperature in (0.3, 1.0, 3.0):
        module, e = gate(temperature)
        with torch.no_grad():
            drawn = torch.stack([module(e)[1] for _ in range(2000)]).mean(0)
            module.eval()
            expected = module(e)[1]
        assert float((drawn - expected).abs().max()) < 0.06


def test_the_gradient_is_that_of_the_soft_draw() -> None:
    module, e = gate()
    torch.manual_seed(1)
    torch.autograd.backward(module(e)[1].sum())
    found = module.scores.weight.grad
    assert found is not None
    module.zero_grad()
    torch.manual_seed(1)
    soft = torch.nn.functional.gumbel_softmax(module.log_probabilities(e), tau=1.0)[..., 1]
    torch.autograd.backward(soft.sum())
    torch.testing.assert_close(found, module.scores.weight.grad)
    assert float(found.abs().max()) > 0


def test_the_output_keeps_the_dtype_and_the_probabilities_are_float32() -> None:
    module, e = gate()
    module.to(torch.bfloat16)
    masked, r = module(e.bfloat16())
    assert (masked.dtype, r.dtype) == (torch.bfloat16, torch.bfloat16)
    assert module.log_probabilities(e.bfloat16()).dtype == torch.float32
