"""What residual scaling must satisfy in every family: the plain model at 1, rows apart, exact gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.errors import SteeringError
from steerline.models.anatomy import anatomy
from steerline.steering import attach
from tests.tiny import DECODER_FAMILIES, TINY_FAMILIES, tiny_model

SPLITS = pytest.mark.parametrize("split", [False, True])
# These families' norms compute in float32 whatever the model's type is.
FLOAT32_NORMS = ("gemma2", "gemma3", "llama", "mistral", "qwen2", "qwen3", "phi3")


def batch() -> tuple[Tensor, Tensor]:
    """Token ids [3, 9], padded on the right with 0, and the mask of real tokens."""
    ids = torch.randint(4, 120, (3, 9), generator=torch.Generator().manual_seed(3))
    mask = torch.arange(9) < torch.tensor((9, 6, 7))[:, None]
    return ids * mask, mask


def logits(model: nn.Module) -> Tensor:
    ids, mask = batch()
    return model(input_ids=ids, attention_mask=mask.long()).logits  # type: ignore[no-any-return]


def loss(model: nn.Module) -> Tensor:
    ids, mask = batch()
    labels = torch.roll(ids, -1, 1).masked_fill(~torch.roll(mask, -1, 1), -100)
    labels[:, -1] = -100
    return functional.cross_entropy(logits(model).flatten(0, 1).double(), labels.flatten(), reduction="sum")


def scaled(split: bool = False, **fields: object) -> SteeringSpec:
    return SteeringSpec(residual_scale=ResidualScaleSpec.model_validate({"split": split, **fields}))


def row_betas(split: bool, rows: int = 3, layers: int = 2, seed: int = 5) -> Tensor:
    """Betas [rows, 2, layers] or [rows, layers] in [0.5, 1.5]."""
    shape = (rows, 2, layers) if split else (rows, layers)
    return 0.5 + torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@contextmanager
def checkpointed(family: str, dtype: torch.dtype = torch.float64) -> Iterator[nn.Module]:
    model = tiny_model(family, dtype=dtype).train()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    yield model


@SPLITS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_a_beta_of_1_and_a_strength_of_0_are_the_plain_model_bit_for_bit(
    family: str, dtype: torch.dtype, split: bool
) -> None:
    model = tiny_model(family, dtype=dtype)
    expected = logits(model)
    loss(model).backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    for spec in (scaled(split), scaled(split, betas=0.3, strength=0)):
        model.zero_grad()
        with attach(model, spec):
            assert torch.equal(logits(model), expected)
            loss(model).backward()
        assert all(torch.equal(model.get_parameter(name).grad, grad) for name, grad in gradients.items())


@SPLITS
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_a_plain_row_keeps_its_bits_among_scaled_ones_and_with_trainable_betas(family: str, split: bool) -> None:
    model = tiny_model(family)
    expected = logits(model)
    betas = row_betas(split)
    betas[1] = 1
    with attach(model, scaled(split)) as attachment:
        for given in (betas, betas.clone().requires_grad_()):
            with attachment.row_betas(given):
                mixed = logits(model)
            assert torch.equal(mixed[1], expected[1])
            assert not torch.equal(mixed[0], expected[0])
        with attachment.row_strengths(residual_scale=torch.zeros(3)), attachment.row_betas(betas):
            assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_a_scaled_block_gives_its_input_plus_beta_times_what_it_adds(family: str) -> None:
    model = tiny_model(family, dtype=torch.float64)
    block = anatomy(model).block_out[1].module
    seen: list[tuple[Tensor, Tensor]] = []

    def watch(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"], output[0] if isinstance(output, tuple) else output))

    plain = block.register_forward_hook(watch, with_kwargs=True)
    logits(model)
    plain.remove()
    with attach(model, scaled(betas=(1.7,), layers=(1,))):
        after = block.register_forward_hook(watch, with_kwargs=True)
        logits(model)
        after.remove()
    (before, whole), (same, found) = seen
    assert torch.equal(before, same)
    torch.testing.assert_close(found, before + 1.7 * (whole - before))


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_both_branches_together_are_what_a_block_adds(family: str) -> None:
    model = tiny_model(family, dtype=torch.float64, num_layers=1)
    with attach(model, scaled(True, betas=0.0)):
        taken_out = logits(model)
    with attach(model, scaled(betas=0.0)):
        torch.testing.assert_close(taken_out, logits(model))


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_a_branch_is_added_in_proportion_to_its_beta(family: str) -> None:
    model = tiny_model(family, dtype=torch.float64, num_layers=1)
    block = anatomy(model).block_out[0].module
    after: list[Tensor] = []
    for beta in (0.0, 0.5, 1.0):
        with attach(model, scaled(True, betas=beta, ffn_betas=0.0)):
            watching = block.register_forward_hook(
                lambda _module, _inputs, output: after.append(output[0] if isinstance(output, tuple) else output)
            )
            logits(model)
            watching.remove()
    torch.testing.assert_close(after[1] - after[0], 0.5 * (after[2] - after[0]))
    assert not torch.equal(after[2], after[0])


@SPLITS
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_rows_with_betas_and_strengths_of_their_own_equal_separate_runs(family: str, split: bool) -> None:
    model = tiny_model(family, dtype=torch.float64)
    betas, strengths = row_betas(split), torch.tensor([0.0, 0.4, 1.0])
    tolerance = 1e-5 if family in FLOAT32_NORMS else 1e-10
    attachment = attach(model, scaled(split))
    with attachment.row_betas(betas), attachment.row_strengths(residual_scale=strengths), torch.no_grad():
        mixed = logits(model)
    attachment.detach()
    for row in range(3):
        attention, ffn = (betas[row, 0], betas[row, 1]) if split else (betas[row], None)
        fields: dict[str, object] = {"betas": tuple(attention.tolist()), "strength": float(strengths[row])}
        if ffn is not None:
            fields["ffn_betas"] = tuple(ffn.tolist())
        with attach(model, scaled(split, **fields)), torch.no_grad():
            torch.testing.assert_close(logits(model)[row], mixed[row], rtol=tolerance, atol=tolerance)


@SPLITS
@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "gemma2", "bert", "distilbert"])
def test_the_gradient_of_beta_is_that_of_finite_differences(family: str, split: bool) -> None:
    model = tiny_model(family, dtype=torch.float64)
    step, tolerance = (1e-3, 2e-3) if family in FLOAT32_NORMS else (1e-6, 1e-6)
    betas = row_betas(split).requires_grad_()
    with attach(model, scaled(split, strength=0.7)) as attachment:
        with attachment.row_betas(betas):
            loss(model).backward()
        assert betas.grad is not None
        direction = betas.grad / betas.grad.norm()
        losses = []
        for by in (step, -step):
            with attachment.row_betas(betas.detach() + by * direction), torch.no_grad():
                losses.append(loss(model))
        at_strength = (losses[0] - losses[1]).item() / (2 * step)
    assert at_strength == pytest.approx(betas.grad.norm().item(), rel=tolerance)


@SPLITS
@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_checkpointing_changes_no_gradient(family: str, split: bool) -> None:
    found = []
    for save in (False, True):
        model = tiny_model(family).train()
        if save:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        betas = row_betas(split).requires_grad_()
        with attach(model, scaled(split)) as attachment:
            with attachment.row_betas(betas):
                total = loss(model)
            # The context has ended: the blocks are computed again with the betas of their first pass.
            total.backward()
        found.append([betas.grad, *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_branches_computed_again_with_other_betas_are_refused() -> None:
    with checkpointed("llama") as model, attach(model, scaled(True)) as attachment:
        with attachment.row_betas(row_betas(True)):
            total = loss(model)
        with attachment.row_betas(row_betas(True, seed=6)):
            loss(model)
        with pytest.raises(SteeringError, match="other conditions"):
            total.backward()


def test_whole_blocks_are_scaled_outside_of_what_is_computed_again() -> None:
    found = []
    for between in (False, True):
        betas = row_betas(False).requires_grad_()
        with checkpointed("llama") as model, attach(model, scaled()) as attachment:
            with attachment.row_betas(betas):
                total = loss(model)
            if between:
                with attachment.row_betas(row_betas(False, seed=6)):
                    loss(model)
            total.backward()
        found.append(betas.grad)
    assert torch.equal(found[0], found[1])  # type: ignore[arg-type]


@SPLITS
def test_hooks_are_gone_after_detaching_and_go_with_a_boost(split: bool) -> None:
    model = tiny_model("gpt2")
    expected = logits(model)
    hooks = [len(module._forward_hooks) for module in model.modules()]
    spec = SteeringSpec(boost=BoostSpec(fraction=0.1), residual_scale=ResidualScaleSpec(betas=0.5, split=split))
    with attach(model, spec):
        both = logits(model)
    with attach(model, scaled(split, betas=0.5)):
        assert not torch.equal(logits(model), both)
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert torch.equal(logits(model), expected)
