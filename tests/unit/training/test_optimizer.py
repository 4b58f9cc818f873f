"""AdamW with float32 masters, its groups, and a learning rate that is a function of the step."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from steerline.config.training import OptimizerSpec, ScheduleSpec
from steerline.training.optimizer import MasterAdamW, adamw, learning_rate, parameter_groups

PEAK = OptimizerSpec(learning_rate=2.0)


def rates(kind: str, warmup: int, num_steps: int) -> list[float]:
    schedule = ScheduleSpec.model_validate({"kind": kind, "warmup_steps": warmup})
    return [learning_rate(PEAK, schedule, step, num_steps) for step in range(num_steps)]


def test_warm_up_rises_linearly_to_the_peak() -> None:
    assert rates("constant", 4, 6) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_linear_falls_to_zero_after_the_last_step() -> None:
    assert rates("linear", 0, 4) == [2.0, 1.5, 1.0, 0.5]


def test_cosine_passes_half_of_the_peak_in_the_middle() -> None:
    found = rates("cosine", 0, 4)
    assert found[0] == 2.0
    assert found[2] == pytest.approx(1.0)
    assert found == sorted(found, reverse=True)


def test_a_run_shorter_than_its_warm_up_never_reaches_the_peak() -> None:
    assert max(rates("linear", 100, 5)) == pytest.approx(0.1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.LayerNorm(3)
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def groups_of(net: nn.Module, spec: OptimizerSpec) -> list[dict[str, object]]:
    return parameter_groups(((p, p.dim()) for p in net.parameters()), spec)


def test_matrices_decay_vectors_do_not_and_frozen_weights_are_left_out() -> None:
    net = Net()
    decayed, kept = groups_of(net, OptimizerSpec(weight_decay=0.3))
    assert decayed["params"] == [net.linear.weight]
    assert decayed["weight_decay"] == 0.3
    assert kept["params"] == [net.linear.bias, net.norm.weight, net.norm.bias]
    assert kept["weight_decay"] == 0.0


def stepped(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int, parts: int = 1) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for _ in range(parts):
            for parameter in net.parameters():
                factor = torch.randn(parameter.shape, generator=generator) / parts
                (parameter * factor.to(parameter.dtype)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def pair() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    low = nn.Linear(8, 8).bfloat16()
    high = nn.Linear(8, 8)
    high.load_state_dict({name: tensor.float() for name, tensor in low.state_dict().items()})
    return low, high


def test_bf16_weights_follow_float32_masters_as_if_trained_in_float32() -> None:
    # Steps of 1e-5 vanish in bf16 one by one; in the masters they add up.
    spec = OptimizerSpec(learning_rate=1e-5, weight_decay=0.1)
    low, high = pair()
    before = low.weight.detach().clone()
    stepped(low, MasterAdamW(groups_of(low, spec), spec), 300)
    stepped(high, adamw(groups_of(high, spec), spec), 300)
    assert not torch.equal(low.weight, before)
    torch.testing.assert_close(low.weight.float(), high.weight, rtol=2**-8, atol=1e-5)


def test_gradients_of_bf16_weights_accumulate_in_float32() -> None:
    low, _ = pair()
    MasterAdamW(groups_of(low, PEAK), PEAK)
    for _ in range(512):
        (low.weight * 1.0).sum().backward()
    assert low.weight.grad is not None
    # In bf16, 256 + 1 is 256 again.
    assert low.weight.grad.dtype == torch.float32
    assert float(low.weight.grad[0, 0]) == 512


def test_a_restored_optimizer_steps_on_exactly() -> None:
    spec = OptimizerSpec(learning_rate=1e-3)
    first, _ = pair()
    optimizer = MasterAdamW(groups_of(first, spec), spec)
    stepped(first, optimizer, 3)
    second, _ = pair()
    restored = MasterAdamW(groups_of(second, spec), spec)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(first.weight, second.weight)
    stepped(first, optimizer, 3)
    stepped(second, restored, 3)
    assert torch.equal(first.weight, second.weight)
    masters = zip(optimizer.state_dict()["masters"], restored.state_dict()["masters"], strict=True)
    assert all(torch.equal(a, b) for left, right in masters for a, b in zip(left, right, strict=True))


def test_the_learning_rate_set_on_a_group_reaches_the_masters() -> None:
    spec = OptimizerSpec(learning_rate=1.0, weight_decay=0.0)
    low, _ = pair()
    before = low.weight.detach().clone()
    optimizer = MasterAdamW(groups_of(low, spec), spec)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    stepped(low, optimizer, 1)
    assert torch.equal(low.weight, before)
