"""What every objective must obey, whatever the model, the batch split, the padding, the packing and the memory tricks.

Where keys are picked by rank the loss jumps when rounding swaps two ranks, so the laws are held in float64, and in
float32 with the picks of a first pass replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch.utils.hooks import RemovableHandle

from steerline.config.training import ActivationCheckpointingSpec, ObjectiveSpec, OptimizerSpec, TrainingSpec, ZeroSpec
from steerline.data.batch import Batch, Row, collate
from steerline.errors import SteeringError
from steerline.training.activation_checkpointing import enable_activation_checkpointing
from steerline.training.engine import Engine
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.workers import Workers
from tests.law.conftest import AT_STRENGTH_ZERO, OBJECTIVES, Picks, packed, same, sample_rows
from tests.tiny import tiny_model

Gradients = dict[str, torch.Tensor]
ROWS = sample_rows()
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def split(rows: Sequence[Row], size: int, pad_to_multiple_of: int = 8) -> list[Batch]:
    return [collate(rows[i : i + size], 0, pad_to_multiple_of) for i in range(0, len(rows), size)]


WHOLE = split(ROWS, 8)
SPLITS = {
    "one by one": split(ROWS, 1),
    "three at a time": split(ROWS, 3),
    "padded far": split(ROWS, 8, pad_to_multiple_of=64),
    "packed": split(packed(ROWS), 2),
    "packed, one by one": split(packed(ROWS), 1),
    "with an idle worker": [*split(ROWS, 8), collate([], 0)],
    "backwards": split(ROWS[::-1], 4),
}


def objective(spec: ObjectiveSpec, dtype: torch.dtype = torch.float32, family: str = "gpt2") -> ObjectiveModel:
    return ObjectiveModel(tiny_model(family, dtype=dtype), spec, seed=1)


def gradients(module: torch.nn.Module) -> Gradients:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def replayed(module: ObjectiveModel, batch: Batch, picks: Picks | None) -> AbstractContextManager[None]:
    return nullcontext() if picks is None else module.steering.replaying(picks.of(batch))


def picks_of(name: str, dtype: torch.dtype) -> Picks | None:
    boosted = OBJECTIVES[name].steering.boost is not None
    return Picks(objective(OBJECTIVES[name], dtype), ROWS) if boosted and dtype == torch.float32 else None


def one_step(
    module: ObjectiveModel, batches: Sequence[Batch], picks: Picks | None = None
) -> tuple[torch.Tensor, Gradients]:
    normaliser = Normaliser.over(batches, Workers())
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        with replayed(module, batch, picks):
            output = module(batch, normaliser)
            output.total.backward()
        total += output.total.detach()
    return total, gradients(module)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("name", AT_STRENGTH_ZERO)
def test_strength_zero_is_plain_training_bit_for_bit(name: str, family: str) -> None:
    plain = one_step(objective(ObjectiveSpec(), family=family), SPLITS["three at a time"])
    steered = one_step(objective(AT_STRENGTH_ZERO[name], family=family), SPLITS["three at a time"])
    assert torch.equal(plain[0], steered[0])
    assert plain[1].keys() == steered[1].keys()
    assert all(torch.equal(plain[1][key], steered[1][key]) for key in plain[1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    # GPT-2 takes its norms in float64; Llama's family rounds them to float32.
    # In evaluation mode a gate is its probability: the hard draw of training has no derivative of its own.
    module = objective(OBJECTIVES[name], torch.float64).eval()
    batches = SPLITS["three at a time"]
    normaliser = Normaliser.over(batches, Workers())
    _, grads = one_step(module, batches)
    generator = torch.Generator().manual_seed(5)
    parameters = dict(module.named_parameters())
    gate = OBJECTIVES[name].steering.vmask
    if gate is not None and gate.apply == "weight":
        # A gate that only weighs reads the embeddings as constants.
        del parameters["model.transformer.wte.weight"]
    direction = {key: torch.randn(p.shape, generator=generator, dtype=p.dtype) for key, p in parameters.items()}
    values = []
    with torch.no_grad():
        for factor in (1e-6, -2e-6):
            for key, parameter in parameters.items():
                parameter.add_(direction[key], alpha=factor)
            values.append(torch.stack([module(batch, normaliser).total for batch in batches]).sum())
    measured = (values[0] - values[1]) / 2e-6
    expected = torch.stack([(grads[key] * direction[key]).sum() for key in direction]).sum()
    torch.testing.assert_close(measured, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_split_padding_and_packing_change_neither_loss_nor_gradients(name: str, dtype: torch.dtype, how: str) -> None:
    picks = picks_of(name, dtype)
    expected_loss, expected = one_step(objective(OBJECTIVES[name], dtype), WHOLE, picks)
    loss, found = one_step(objective(OBJECTIVES[name], dtype), SPLITS[how], picks)
    torch.testing.assert_close(loss, expected_loss, rtol=TOLERANCE[dtype], atol=0)
    same(found, expected, TOLERANCE[dtype])


def weights_after_a_step(name: str, batches: Sequence[Batch], picks: Picks | None) -> tuple[Gradients, Gradients]:
    # A large epsilon keeps AdamW from turning the sign of a rounding error into a step.
    training = TrainingSpec(num_steps=1, precision="fp32", clip_norm=None, optimizer=OptimizerSpec(eps=1e-3))
    workers = Workers()
    engine = Engine(objective(OBJECTIVES[name]), training, ZeroSpec(), workers, accumulation=len(batches))
    normaliser = Normaliser.over(batches, workers)
    for number, batch in enumerate(batches):
        with replayed(engine.objective, batch, picks):
            engine.forward_backward(batch, normaliser, last=number == len(batches) - 1)
    grads = gradients(engine.objective)
    engine.step(1e-2)
    weights = {key: tensor.clone() for key, tensor in engine.state_dict().items()}
    engine.close()
    return grads, weights


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_accumulation_changes_neither_gradients_nor_the_weights_after_a_step(name: str) -> None:
    picks = picks_of(name, torch.float32)
    expected_grads, expected_weights = weights_after_a_step(name, WHOLE, picks)
    # They are those of plain autograd: no factor of accumulation or worker count is left in.
    same(expected_grads, one_step(objective(OBJECTIVES[name]), WHOLE, picks)[1], 1e-6)
    for how in ("three at a time", "packed, one by one"):
        grads, weights = weights_after_a_step(name, SPLITS[how], picks)
        same(grads, expected_grads, 1e-5)
        same(weights, expected_weights, 1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_activation_checkpointing_changes_neither_loss_nor_gradients(name: str) -> None:
    plain = one_step(objective(OBJECTIVES[name]), SPLITS["three at a time"])
    module = objective(OBJECTIVES[name])
    enable_activation_checkpointing(module.model, ActivationCheckpointingSpec())
    module.train()
    assert module.model.is_activation_checkpointing
    loss, found = one_step(module, SPLITS["three at a time"])
    assert torch.equal(loss, plain[0])
    same(found, plain[1], 0.0)


def test_reentrant_checkpointing_is_refused_with_an_explanation() -> None:
    with pytest.raises(ValueError, match="silently drops the gradients"):
        ActivationCheckpointingSpec(reentrant=True)


def hooks(module: torch.nn.Module) -> int:
    return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in module.modules())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_hooks_are_gone_after_detach_also_after_an_exception(name: str) -> None:
    model = tiny_model("llama")
    foreign: RemovableHandle = model.register_forward_hook(lambda *_: None)
    before, configs = hooks(model), own_configs(model)
    module = ObjectiveModel(model, OBJECTIVES[name])
    batch = SPLITS["one by one"][0]
    broken = model.register_forward_pre_hook(_fail)
    with pytest.raises(SteeringError, match="on purpose"):
        module(batch, Normaliser(1, 1, 1, 1), measure=True)
    broken.remove()
    module.detach()
    assert hooks(model) == before
    assert own_configs(model) == configs
    foreign.remove()


def own_configs(module: torch.nn.Module) -> list[int]:
    return [id(vars(part)["config"]) for part in module.modules() if "config" in vars(part)]


def _fail(*_: object) -> None:
    raise SteeringError("on purpose")
