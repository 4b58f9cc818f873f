"""What attached steering must satisfy in every family.

Keys are picked by rank, a step function: rounding may swap two ranks, and then the loss jumps. The laws about equal
computations hold in float64, where it takes a tie to within 1e-16 to swap, and in float32 with the selection replayed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from steerline.config.steering import BoostSpec, EntropySpec, SteeringSpec
from steerline.models.anatomy import anatomy
from steerline.steering import attach
from steerline.steering.attach import Attachment
from tests.tiny import DECODER_FAMILIES, TINY_FAMILIES, tiny_model

READING = {"select": "magnitude", "mean": "abs", "keep_sign": True, "fraction": 0.1}
BOOST = SteeringSpec(boost=BoostSpec.model_validate(READING))
ENTROPY = SteeringSpec(entropy=EntropySpec(strength=0.05))
BOTH = SteeringSpec(boost=BOOST.boost, entropy=ENTROPY.entropy)
CONTROLS = {
    control: SteeringSpec(boost=BoostSpec.model_validate({**READING, "control": control}))
    for control in ("random_keys", "top_keys", "matched_noise")
}
SPECS = {"boost": BOOST, "literal": SteeringSpec(boost=BoostSpec(fraction=0.1)), "entropy": ENTROPY, "both": BOTH}
LENGTHS = (11, 7, 9)
# These families' norms compute in float32 whatever the model's type is.
FLOAT32_NORMS = ("gemma2", "gemma3", "llama")


def batch() -> tuple[Tensor, Tensor]:
    """Token ids [3, 11], padded on the right with 0, and the mask of real tokens."""
    ids = torch.randint(4, 120, (3, 11), generator=torch.Generator().manual_seed(3))
    mask = torch.arange(11) < torch.tensor(LENGTHS)[:, None]
    return ids * mask, mask


def total_loss(model: nn.Module, attachment: Attachment, ids: Tensor, mask: Tensor) -> Tensor:
    """Sum over target tokens of the cross-entropy minus strength times the entropies: additive over rows."""
    labels = torch.roll(ids, -1, 1).masked_fill(~torch.roll(mask, -1, 1), -100)
    labels[:, -1] = -100
    with attachment.recording(labels != -100, mask) as recording:
        logits = model(input_ids=ids, attention_mask=mask.long()).logits
    loss = functional.cross_entropy(logits.flatten(0, 1).to(torch.float64), labels.flatten(), reduction="sum")
    if not recording.entropy_layers:
        return loss
    return loss - attachment.entropy_strength * recording.entropy_sums().sum()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def trained(
    model: nn.Module, spec: SteeringSpec, parts: list[tuple[Tensor, Tensor]], within: list[Any] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients accumulated over `parts`, the i-th under `within[i](attachment)`."""
    model.zero_grad()
    loss = torch.zeros((), dtype=torch.float64)
    with attach(model, spec, seed=1) as attachment:
        for number, (ids, mask) in enumerate(parts):
            with within[number](attachment) if within else nullcontext():
                part = total_loss(model, attachment, ids, mask)
            part.backward()
            loss += part.detach()
    return loss, gradients(model)


def assert_same(
    one: tuple[Tensor, dict[str, Tensor]], other: tuple[Tensor, dict[str, Tensor]], tolerance: float
) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=tolerance, atol=0)
    assert one[1].keys() == other[1].keys()
    # Some gradients are 0 but for rounding (OPT's key biases), so errors are measured against the largest of all.
    size = max(grad.abs().max().item() for grad in one[1].values())
    for name, grad in one[1].items():
        torch.testing.assert_close(grad / size, other[1][name] / size, rtol=0, atol=tolerance)


@pytest.mark.parametrize("family", TINY_FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strength_0_is_the_plain_model_bit_for_bit(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family, dtype=dtype)
    parts = [batch()]
    plain = trained(model, SteeringSpec(), parts)
    off = SteeringSpec(boost=BoostSpec(strength=0), entropy=EntropySpec(strength=0))
    loss, grads = trained(model, off, parts)
    assert torch.equal(loss, plain[0])
    assert all(torch.equal(grads[name], plain[1][name]) for name in plain[1])


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_steering_acts_in_every_family_and_leaves_no_hook(family: str) -> None:
    model = tiny_model(family)
    ids, mask = batch()
    before = model(input_ids=ids, attention_mask=mask.long()).logits
    hooks = [dict(module._forward_pre_hooks) for module in model.modules()]

    def interrupted() -> None:
        with attach(model, BOTH) as attachment:
            total_loss(model, attachment, ids, mask).backward()
            assert not torch.equal(model(input_ids=ids, attention_mask=mask.long()).logits, before)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert [dict(module._forward_pre_hooks) for module in model.modules()] == hooks
    assert torch.equal(model(input_ids=ids, attention_mask=mask.long()).logits, before)


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "gemma2", "bert"])
@pytest.mark.parametrize("name", SPECS)
def test_the_gradient_is_that_of_finite_differences(family: str, name: str) -> None:
    model = tiny_model(family, dtype=torch.float64)
    ids, mask = batch()
    step, tolerance = (1e-4, 5e-3) if family in FLOAT32_NORMS else (1e-6, 1e-5)
    with attach(model, SPECS[name]) as attachment, attachment.recording_selection() as picked:
        total_loss(model, attachment, ids, mask).backward()
    grads = gradients(model)
    direction = {name: grad / grad.norm() for name, grad in grads.items() if grad.norm() > 1e-9}
    losses = []
    with attach(model, SPECS[name]) as attachment, attachment.replaying(picked), torch.no_grad():
        for by in (step, -2 * step):
            for key, weight in model.named_parameters():
                if key in direction:
                    weight.add_(direction[key], alpha=by)
            losses.append(total_loss(model, attachment, ids, mask))
    slope = sum((grads[key] * towards).sum().item() for key, towards in direction.items())
    assert (losses[0] - losses[1]).item() / (2 * step) == pytest.approx(slope, rel=tolerance)


@pytest.mark.parametrize("family", DECODER_FAMILIES)
@pytest.mark.parametrize("name", [*SPECS, *CONTROLS])
def test_checkpointing_changes_neither_loss_nor_gradients(family: str, name: str) -> None:
    spec = {**SPECS, **CONTROLS}[name]
    results = []
    for save in (False, True):
        model = tiny_model(family).train()
        if save:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        results.append(trained(model, spec, [batch()]))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(results[0][1][key], results[1][1][key]) for key in results[0][1])


@pytest.mark.parametrize("family", DECODER_FAMILIES)
@pytest.mark.parametrize("name", SPECS)
def test_neither_batch_split_nor_padding_matter_in_float64(family: str, name: str) -> None:
    model = tiny_model(family, dtype=torch.float64)
    ids, mask = batch()
    tolerance = 1e-6 if family in FLOAT32_NORMS else 1e-10
    whole = trained(model, SPECS[name], [(ids, mask)])
    rows = [(ids[i : i + 1, :length], mask[i : i + 1, :length]) for i, length in enumerate(LENGTHS)]
    assert_same(whole, trained(model, SPECS[name], rows), tolerance)
    wider = [(functional.pad(ids, (0, 6)), functional.pad(mask, (0, 6)))]
    assert_same(whole, trained(model, SPECS[name], wider), tolerance)


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_a_batch_split_does_not_matter_in_float32_with_the_selection_replayed(family: str) -> None:
    model = tiny_model(family)
    ids, mask = batch()
    with attach(model, BOTH) as attachment, attachment.recording_selection() as picked, torch.no_grad():
        model(input_ids=ids, attention_mask=mask.long())
    whole = trained(model, BOTH, [(ids, mask)], [lambda attachment: attachment.replaying(picked)])

    def replaying(row: int) -> Any:
        def within(attachment: Attachment) -> AbstractContextManager[None]:
            return attachment.replaying(picked.rows(row, row + 1, 3))

        return within

    rows = [(ids[i : i + 1], mask[i : i + 1]) for i in range(3)]
    assert_same(whole, trained(model, BOTH, rows, [replaying(i) for i in range(3)]), 1e-5)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_rows_of_a_mixed_batch_equal_runs_of_their_own(family: str) -> None:
    model = tiny_model(family)
    ids, mask = batch()

    def logits() -> Tensor:
        return model(input_ids=ids, attention_mask=mask.long()).logits  # type: ignore[no-any-return]

    plain = logits()
    with attach(model, BOOST) as attachment, torch.no_grad():
        with attachment.row_strengths(torch.tensor([0.0, 0.5, 1.0])):
            mixed = logits()
        for row, strength in enumerate((0.0, 0.5, 1.0)):
            with attachment.row_strengths(torch.full((3,), strength)):
                assert torch.equal(logits()[row], mixed[row])
    assert torch.equal(mixed[0], plain[0])


@pytest.mark.parametrize("target", ["all-linear", "attention only"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_lora_runs_and_is_steered_as_the_model_it_wraps(family: str, target: str) -> None:
    from peft import LoraConfig, get_peft_model

    ids, mask = batch()
    expected = trained(tiny_model(family), BOTH, [(ids, mask)])[0]
    attention = {"llama": ["q_proj"], "opt": ["q_proj"], "gpt2": ["c_attn"]}[family]
    modules = "all-linear" if target == "all-linear" else attention
    config = LoraConfig(r=2, target_modules=modules, task_type="CAUSAL_LM", fan_in_fan_out=family == "gpt2")
    model = get_peft_model(tiny_model(family), config)
    loss, grads = trained(model, BOTH, [(ids, mask)])
    torch.testing.assert_close(loss, expected)
    assert grads
    assert all("lora" in name for name in grads)


def test_a_compiled_model_is_steered_alike() -> None:
    ids, mask = batch()
    expected = trained(tiny_model("llama"), BOTH, [(ids, mask)])
    model = tiny_model("llama")
    with attach(model, BOTH, seed=1) as attachment:
        loss = total_loss(torch.compile(model, backend="aot_eager"), attachment, ids, mask)
        loss.backward()
    assert_same(expected, (loss.detach(), gradients(model)), 1e-5)


def test_ffn_keys_of_every_layer_are_measured() -> None:
    model = tiny_model("llama", num_layers=5)
    ids, mask = batch()
    with attach(model, SteeringSpec()) as attachment, attachment.recording(mask, mask, measure=True) as recording:
        model(input_ids=ids, attention_mask=mask.long())
    assert sorted(recording.measured) == list(range(anatomy(model).num_layers))
