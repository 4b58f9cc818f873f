"""Recorded entropies and the side loss against a naive autograd version, under checkpointing and in odd orders."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from steerline.config.layer_selection import StrengthSchedule
from steerline.config.steering import BoostSpec, EntropySpec, SteeringSpec
from steerline.errors import SteeringError
from steerline.steering import attach
from steerline.steering.attach import Attachment
from steerline.steering.recording import Recording
from steerline.steering.rows import NORMS
from tests.unit.steering.sites import Ffns, batch
from tests.unit.steering.test_infosteer import naive_entropy

TOKENS = torch.ones(3, 5, dtype=torch.bool)
TARGETS = torch.tensor([[0, 0, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
BOTH = SteeringSpec(
    boost=BoostSpec(select="magnitude", mean="abs", keep_sign=True, fraction=0.2), entropy=EntropySpec(strength=0.3)
)


def objective(out: Tensor, entropies: Tensor) -> Tensor:
    return out.square().sum() - 0.3 * (entropies * torch.arange(1, 1 + len(entropies))).sum()


def gradients(model: Ffns, total: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    total.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def recorded(model: Ffns, x: Tensor, spec: SteeringSpec, run: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    with attach(model, spec, anatomy=model.anatomy()) as attachment:
        with attachment.recording(TARGETS, TOKENS) as recording:
            out = (run or model)(x)
        total = objective(out, recording.entropy_sums())
        total.backward()
        return total.detach()


def checkpointed(model: Ffns) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        for layer in model.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return x

    return run


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_the_side_loss_equals_naive_autograd(norm: str, tokens: str, flatten: bool) -> None:
    model, x = Ffns(flatten=flatten), batch()
    mask = TARGETS if tokens == "answer" else TOKENS
    spec = SteeringSpec(entropy=EntropySpec.model_validate({"norm": norm, "tokens": tokens}))
    with attach(model, spec, anatomy=model.anatomy()) as attachment:
        with attachment.recording(TARGETS, TOKENS) as recording:
            mine = model(x)
        sums = recording.entropy_sums()
        assert recording.num_tokens == mask.sum()
        grads = gradients(model, objective(mine, sums))
    out = model.watch()(x)
    naive = torch.stack([(naive_entropy(model.seen[i].view(15, -1), norm) * mask.view(-1)).sum() for i in range(2)])
    torch.testing.assert_close(sums, naive, rtol=1e-10, atol=1e-10)
    for name, expected in gradients(model, objective(out, naive)).items():
        torch.testing.assert_close(grads[name], expected, rtol=1e-10, atol=1e-10)


def test_the_entropy_is_that_of_the_keys_after_the_boost() -> None:
    model, x = Ffns(), batch()
    with attach(model, BOTH, anatomy=model.anatomy()) as attachment:
        with attachment.recording(TARGETS, TOKENS) as recording:
            model.watch()(x)
        naive = torch.stack([(naive_entropy(model.seen[i], "abs_l1") * TARGETS).sum() for i in range(2)])
        torch.testing.assert_close(recording.entropy_sums(), naive)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "boost", [{}, {"control": "random_keys"}, {"control": "matched_noise"}, {"strength": 0.4, "detach_mean": True}]
)
def test_non_reentrant_checkpointing_changes_nothing(dtype: torch.dtype, boost: dict[str, object]) -> None:
    x = batch(dtype)
    spec = SteeringSpec(boost=BoostSpec.model_validate({"fraction": 0.2, **boost}), entropy=EntropySpec(strength=0.3))
    plain, saving = Ffns(dtype), Ffns(dtype)
    assert torch.equal(recorded(plain, x, spec), recorded(saving, x, spec, checkpointed(saving)))
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_a_checkpointed_backward_pass_sees_the_row_strengths_and_selection_of_its_forward_pass() -> None:
    x = batch()
    grads = []
    for wrap in (False, True):
        model = Ffns()
        with attach(model, BOTH, anatomy=model.anatomy()) as attachment:
            with (
                attachment.row_strengths(torch.tensor([0.0, 0.5, 1.0])),
                attachment.recording_selection(),
                attachment.recording(TARGETS, TOKENS) as recording,
            ):
                out = (checkpointed(model) if wrap else model)(x)
            grads.append(gradients(model, objective(out, recording.entropy_sums())))
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])


def test_a_forward_pass_under_other_conditions_before_a_checkpointed_backward_pass_is_refused() -> None:
    model, x = Ffns(), batch()
    with attach(model, BOTH, anatomy=model.anatomy()) as attachment:
        with attachment.row_strengths(torch.tensor([0.0, 0.5, 1.0])):
            out = checkpointed(model)(x)
        with attachment.row_strengths(torch.tensor([0.0, 1.0, 0.0])), torch.no_grad():
            model(x)
        with pytest.raises(SteeringError, match="other conditions"):
            out.sum().backward()
        # The refusal leaves nothing behind.
        checkpointed(model)(x).sum().backward()


def test_micro_batches_may_all_run_forward_before_any_runs_backward() -> None:
    model, x = Ffns(), batch()
    with attach(model, BOTH, anatomy=model.anatomy()) as attachment:

        def forward(run: Callable[[Tensor], Tensor]) -> Tensor:
            with attachment.recording(TARGETS, TOKENS) as recording:
                return _total(run, x, recording)

        once = gradients(model, forward(model))
        twice = [forward(checkpointed(model)), forward(checkpointed(model))]
        both = gradients(model, twice[0] + twice[1])
    assert all(torch.allclose(2 * once[name], both[name], rtol=1e-12) for name in once)


def _total(run: Callable[[Tensor], Tensor], x: Tensor, recording: Recording) -> Tensor:
    out = run(x)
    return objective(out, recording.entropy_sums())


def test_a_backward_pass_inside_a_recording_records_nothing() -> None:
    model, x = Ffns(), batch()
    with (
        attach(model, BOTH, anatomy=model.anatomy()) as attachment,
        attachment.recording(TARGETS, TOKENS, measure=True) as recording,
    ):
        total = _total(checkpointed(model), x, recording)
        total.backward()
        before = recording.entropy_sums()
    assert torch.equal(before, recording.entropy_sums())


def test_reentrant_checkpointing_is_refused() -> None:
    model, x = Ffns(), batch().requires_grad_()
    with (
        attach(model, BOTH, anatomy=model.anatomy()) as attachment,
        attachment.recording(TARGETS, TOKENS),
        pytest.raises(SteeringError, match="reentrant"),
    ):
        checkpoint(model.layers[0], x, use_reentrant=True)


def test_measuring_covers_every_layer_and_leaves_loss_and_gradients_alone() -> None:
    model, x = Ffns(), batch()
    spec = SteeringSpec(entropy=EntropySpec(layers=(1,)))
    results = []
    for measure in (False, True):
        with attach(model, spec, anatomy=model.anatomy()) as attachment:
            with attachment.recording(TARGETS, TOKENS, measure=measure) as recording:
                out = model(x)
            results.append((recording, gradients(model, objective(out, recording.entropy_sums()))))
            assert len(model.layers[0].down._forward_pre_hooks) == 0  # type: ignore[union-attr]
    (without, one), (measured, other) = results
    assert set(without.measured) == {1}
    assert set(measured.measured) == {0, 1}
    assert measured.entropy_layers == (1,)
    assert not measured.measured[0].requires_grad
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_plain_model_can_be_measured_bit_for_bit() -> None:
    model, x = Ffns(), batch()
    expected = gradients(model, model(x).sum())
    with attach(model, SteeringSpec(), anatomy=model.anatomy()) as attachment:
        with attachment.recording(TARGETS, TOKENS, measure=True) as recording:
            out = model(x)
        assert recording.entropy_sums().shape == (0,)
        grads = gradients(model, out.sum())
    model.watch()(x)
    naive = (naive_entropy(model.seen[1], "abs_l1") * TARGETS).sum()
    torch.testing.assert_close(recording.measured[1], naive)
    assert all(torch.equal(grads[name], expected[name]) for name in expected)


def test_strength_0_hooks_nothing() -> None:
    model = Ffns()
    spec = SteeringSpec(entropy=EntropySpec(strength=0))
    with attach(model, spec, anatomy=model.anatomy()):
        assert all(not layer.down._forward_pre_hooks for layer in model.layers)  # type: ignore[union-attr]


def test_a_side_loss_multiplied_by_0_leaves_every_gradient_bit_for_bit() -> None:
    model, x = Ffns(torch.bfloat16), batch(torch.bfloat16)
    expected = gradients(model, model(x).square().sum())
    with attach(model, SteeringSpec(entropy=EntropySpec()), anatomy=model.anatomy()) as attachment:
        with attachment.recording(TARGETS, TOKENS) as recording:
            out = model(x)
        grads = gradients(model, out.square().sum() - 0.0 * recording.entropy_sums().sum())
    assert all(torch.equal(grads[name], expected[name]) for name in expected)


def test_the_regularisers_strength_follows_its_schedule() -> None:
    spec = SteeringSpec(entropy=EntropySpec(strength=-0.02, schedule=StrengthSchedule(warmup_steps=4)))
    model = Ffns()
    with attach(model, spec, anatomy=model.anatomy()) as attachment:
        attachment.step = 1
        assert attachment.entropy_strength == -0.005


def test_frozen_weights_below_a_site_still_give_the_value() -> None:
    model, x = Ffns(), batch()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.layers[1].down.weight.requires_grad_()  # type: ignore[union-attr]
    recorded(model, x, BOTH)
    recorded(model, x, BOTH, checkpointed(model))


def test_only_the_keys_that_the_ffn_keeps_are_saved() -> None:
    def saved_bytes(attachment: Attachment | None) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            if attachment is None:
                out = objective(model(x), torch.zeros(0))
            else:
                with attachment.recording(mask, mask) as recording:
                    out = _total(model, x, recording)
        total = sum(storages.values())
        out.backward()
        return total

    model, x = Ffns(torch.float32), batch(torch.float32, 8, 16)
    mask = torch.ones(8, 16, dtype=torch.bool)
    plain = saved_bytes(None)
    keys = 8 * 16 * 20 * 4
    with attach(model, SteeringSpec(entropy=EntropySpec()), anatomy=model.anatomy()) as attachment:
        assert saved_bytes(attachment) - plain < keys / 4
    # tanh keeps its output, the keys before the edit, which a gated FFN does not: one more tensor for each layer.
    with attach(model, SteeringSpec(boost=BoostSpec(mean="abs")), anatomy=model.anatomy()) as attachment:
        assert saved_bytes(attachment) - plain < 2 * keys * 1.25


def test_masks_of_another_batch_are_refused() -> None:
    model = Ffns()
    with (
        attach(model, BOTH, anatomy=model.anatomy()) as attachment,
        attachment.recording(TARGETS[:2], TOKENS[:2]),
        pytest.raises(SteeringError, match="masks"),
    ):
        model(batch())


def test_a_recording_holds_exactly_one_forward_pass() -> None:
    model, x = Ffns(), batch()
    with attach(model, BOTH, anatomy=model.anatomy()) as attachment, attachment.recording(TARGETS, TOKENS) as recording:
        with pytest.raises(SteeringError, match="no forward pass"):
            recording.entropy_sums()
        model(x)
        with pytest.raises(SteeringError, match="one forward pass"):
            model(x)
