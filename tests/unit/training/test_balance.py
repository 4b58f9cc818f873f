"""Balanced side losses pull as hard as the base loss, times their strength."""

from __future__ import annotations

import pytest
import torch

from steerline.config.layer_selection import StrengthSchedule
from steerline.config.safr import ImportanceSpec, InteractionSpec
from steerline.config.steering import EntropySpec, SteeringSpec
from steerline.config.training import BalanceSpec, ObjectiveSpec
from steerline.data.batch import collate
from steerline.training.balance import find_balance
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.workers import Workers
from tests.law.conftest import sample_rows
from tests.tiny import tiny_model

BATCHES = [collate(sample_rows()[i : i + 4], 0) for i in (0, 4)]
SPEC = ObjectiveSpec(
    steering=SteeringSpec(
        entropy=EntropySpec(strength=0.1, schedule=StrengthSchedule(warmup_steps=10)),
        importance=ImportanceSpec(strength=0.5, schedule=StrengthSchedule(warmup_steps=10)),
        interaction=InteractionSpec(strength=2),
    ),
    balance=BalanceSpec(),
)


def gradient_norm(module: ObjectiveModel, name: str | None) -> float:
    """Of a side loss, balance, strength and schedule included; of the base loss for none."""
    normaliser = Normaliser.over(BATCHES, Workers())
    module.zero_grad()
    for batch in BATCHES:
        parts = module.parts(batch, normaliser)
        if name is None:
            parts.base.backward()
        else:
            side = parts.side[name]
            (module.balance[name] * side.strength * side.sum / side.denominator).backward()
    squares = [p.grad.double().square().sum() for p in module.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())


def test_each_side_loss_pulls_as_hard_as_the_base_loss_times_its_strength() -> None:
    module = ObjectiveModel(tiny_model("gpt2"), SPEC)
    module.balance = find_balance(module, BalanceSpec(), BATCHES, Workers())
    assert not any(p.grad is not None for p in module.parameters())
    base = gradient_norm(module, None)
    module.start_step(10)
    for name, strength in (("entropy", 0.1), ("importance", 0.5), ("interaction", 2)):
        assert gradient_norm(module, name) == pytest.approx(strength * base, rel=1e-4)


def test_no_constant_is_larger_than_allowed() -> None:
    module = ObjectiveModel(tiny_model("gpt2"), SPEC)
    found = find_balance(module, BalanceSpec(largest=1e-3), BATCHES, Workers())
    assert set(found.values()) == {1e-3}


def test_the_constants_are_the_objectives_state() -> None:
    module = ObjectiveModel(tiny_model("gpt2"), SPEC)
    module.balance = find_balance(module, BalanceSpec(), BATCHES, Workers())
    other = ObjectiveModel(tiny_model("gpt2"), SPEC)
    other.load_state(module.state())
    normaliser = Normaliser.over(BATCHES, Workers())
    assert torch.equal(module(BATCHES[0], normaliser).total, other(BATCHES[0], normaliser).total)
    other.balance = {}
    assert not torch.equal(module(BATCHES[0], normaliser).total, other(BATCHES[0], normaliser).total)
