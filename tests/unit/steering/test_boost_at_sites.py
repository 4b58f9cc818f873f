"""What the boost and its placebos do to the keys of an attached model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steerline.config.layer_selection import StrengthSchedule
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.errors import SteeringError
from steerline.steering import attach, boost_keys
from steerline.steering.ops import Picked
from steerline.steering.recording import Selection
from tests.unit.steering.sites import Ffns, batch

READING = {"select": "magnitude", "mean": "abs", "keep_sign": True, "fraction": 0.2}


def boosted(**changes: object) -> SteeringSpec:
    return SteeringSpec(boost=BoostSpec.model_validate({**READING, **changes}))


def first_keys(model: Ffns, x: Tensor) -> Tensor:
    return model.layers[0].keys(x)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("flatten", [False, True])
def test_full_strength_gives_the_value_projection_the_boosted_keys(dtype: torch.dtype, flatten: bool) -> None:
    model, x = Ffns(dtype, flatten), batch(dtype)
    with attach(model, boosted(), anatomy=model.anatomy()):
        model.watch()(x)
    expected = boost_keys(first_keys(model, x), 0.2, 1.0, "magnitude", "abs", True)
    assert torch.equal(model.seen[0], expected)


def test_strength_is_a_straight_line_from_the_keys_to_the_boosted_keys() -> None:
    model, x = Ffns(), batch()
    with attach(model, boosted(strength=0.3), anatomy=model.anatomy()):
        model.watch()(x)
    keys = first_keys(model, x)
    torch.testing.assert_close(
        model.seen[0], keys + 0.3 * (boost_keys(keys, 0.2, 1.0, "magnitude", "abs", True) - keys)
    )


def test_only_the_selected_layers_are_edited() -> None:
    model, x = Ffns(), batch()
    with attach(model, boosted(layers=(1,)), anatomy=model.anatomy()):
        model.watch()(x)
    assert torch.equal(model.seen[0], first_keys(model, x))


@pytest.mark.parametrize(
    ("active_in", "acts"), [("train", (True, False)), ("eval", (False, True)), ("both", (True,) * 2)]
)
def test_the_phase_decides_whether_the_boost_acts(active_in: str, acts: tuple[bool, ...]) -> None:
    model, x = Ffns(), batch()
    plain = model(x)
    with attach(model, boosted(active_in=active_in), anatomy=model.anatomy()) as attachment:
        for phase, expected in zip(("train", "eval"), acts, strict=True):
            attachment.phase = phase  # type: ignore[assignment]
            assert torch.equal(model(x), plain) is not expected
            assert (attachment.boost_strength == 1) is expected


def test_the_strength_follows_its_schedule() -> None:
    model, x = Ffns(), batch()
    plain = model(x)
    spec = boosted(schedule=StrengthSchedule(warmup_steps=4, decay_steps=2))
    with attach(model, spec, anatomy=model.anatomy()) as attachment:
        strengths = []
        for step in (0, 1, 4, 5, 6):
            attachment.step = step
            strengths.append(attachment.boost_strength)
            assert torch.equal(model(x), plain) is (attachment.boost_strength == 0)
    assert strengths == [0, 0.25, 1, 0.5, 0]


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("control", ["none", "random_keys", "top_keys", "matched_noise"])
def test_row_strengths_equal_separate_runs_and_zero_rows_are_plain(
    control: str, dtype: torch.dtype, flatten: bool
) -> None:
    model, x = Ffns(dtype, flatten), batch(dtype)
    plain = model(x)
    strengths = [0.0, 0.5, 1.0]
    with attach(model, boosted(control=control), anatomy=model.anatomy()) as attachment:
        with attachment.row_strengths(torch.tensor(strengths)):
            mixed = model(x)
        for row, strength in enumerate(strengths):
            with attachment.row_strengths(torch.full((3,), strength)):
                assert torch.equal(model(x)[row], mixed[row])
        assert torch.equal(mixed[0], plain[0])
        assert not torch.equal(mixed[1], plain[1])
        with attachment.row_strengths(torch.zeros(3)):
            assert torch.equal(model(x), plain)


def test_row_strengths_act_in_either_phase_and_none_leaves_the_scalar() -> None:
    model, x = Ffns(), batch()
    plain = model(x)
    with attach(model, boosted(active_in="train"), anatomy=model.anatomy()) as attachment:
        steered = model(x)
        attachment.phase = "eval"
        with attachment.row_strengths(torch.ones(3)):
            assert torch.equal(model(x), steered)
        with attachment.row_strengths(None):
            assert torch.equal(model(x), plain)


@pytest.mark.parametrize("strengths", [torch.ones(2), torch.ones(0), torch.ones(3, 1), -torch.ones(3)])
def test_strengths_that_do_not_fit_the_batch_are_refused(strengths: Tensor) -> None:
    model = Ffns()
    with (
        attach(model, boosted(), anatomy=model.anatomy()) as attachment,
        pytest.raises(SteeringError, match="strengths"),
        attachment.row_strengths(strengths),
    ):
        model(batch())


def test_row_strengths_without_a_boost_are_refused() -> None:
    model = Ffns()
    attachment = attach(model, SteeringSpec(), anatomy=model.anatomy())
    with pytest.raises(SteeringError, match="no boost"), attachment.row_strengths(torch.ones(3)):
        pass


def test_random_keys_edit_as_many_keys_in_the_same_way_but_others() -> None:
    model, x = Ffns(), batch()
    keys = first_keys(model, x)
    with attach(model, boosted(control="random_keys"), anatomy=model.anatomy(), seed=5) as attachment:
        with attachment.recording_selection() as picked:
            model.watch()(x)
        edited = model.seen[0] != keys
        assert (edited.sum(-1) == 4).all()
        index = picked.layers[0].indices.view(3, 5, 4).long()
        mean = keys.abs().mean(-1, keepdim=True)
        torch.testing.assert_close(
            model.seen[0].gather(-1, index), keys.gather(-1, index).sign() * mean.expand(3, 5, 4)
        )
        attachment.step = 1
        with attachment.recording_selection() as later:
            model(x)
    assert not torch.equal(picked.layers[0].indices, later.layers[0].indices)
    assert not torch.equal(picked.layers[0].indices, picked.layers[1].indices)


def test_top_keys_edit_the_largest() -> None:
    model, x = Ffns(), batch()
    keys = first_keys(model, x)
    attachment = attach(model, boosted(control="top_keys"), anatomy=model.anatomy())
    with attachment.recording_selection() as picked:
        model.watch()(x)
    assert torch.equal(picked.layers[0].indices.long(), keys.abs().view(15, -1).topk(4).indices.sort().values)
    assert ((model.seen[0] != keys).sum(-1) == 4).all()


def test_matched_noise_has_the_norm_of_the_edit_on_every_token() -> None:
    model, x = Ffns(), batch()
    keys = first_keys(model, x)
    with attach(model, boosted(control="matched_noise", strength=0.5), anatomy=model.anatomy()):
        model.watch()(x)
    change = boost_keys(keys, 0.2, 1.0, "magnitude", "abs", True) - keys
    noise = model.seen[0] - keys
    torch.testing.assert_close(noise.norm(dim=-1), 0.5 * change.norm(dim=-1))
    assert (noise != 0).all()


@pytest.mark.parametrize("control", ["random_keys", "matched_noise"])
def test_placebos_are_drawn_again_alike_and_by_their_seeds(control: str) -> None:
    model, x = Ffns(), batch()

    def run(seed: int, control_seed: int) -> Tensor:
        spec = boosted(control=control, control_seed=control_seed)
        with attach(model, spec, anatomy=model.anatomy(), seed=seed):
            return model(x)  # type: ignore[no-any-return]

    assert torch.equal(run(1, 0), run(1, 0))
    assert not torch.equal(run(1, 0), run(2, 0))
    assert not torch.equal(run(1, 0), run(1, 1))


def test_matched_noise_passes_the_gradient_on_unchanged() -> None:
    model, x = Ffns(), batch()
    with attach(model, boosted(control="matched_noise", layers=(1,)), anatomy=model.anatomy()):
        model.watch()(x).sum().backward()
    expected = torch.ones(15, 6, dtype=torch.float64) @ model.layers[1].down.weight  # type: ignore[union-attr, operator]
    up = model.layers[1].up
    slopes = expected.view(3, 5, -1) * (1 - torch.tanh(up(model.layers[0](x))).square())  # type: ignore[operator]
    torch.testing.assert_close(up.bias.grad, slopes.sum((0, 1)))  # type: ignore[union-attr]


def test_a_replayed_selection_decides_in_place_of_the_ranks() -> None:
    model, x = Ffns(), batch()
    other = x + 0.5
    with attach(model, boosted(), anatomy=model.anatomy()) as attachment:
        with attachment.recording_selection() as picked:
            model(x)
        model.watch()
        with attachment.replaying(picked):
            model(other)
        keys = first_keys(model, other)
        where = (model.seen[0] != keys).view(15, -1).nonzero()[:, 1].view(15, 4)
        assert torch.equal(where, picked.layers[0].indices.long())
        with attachment.replaying(picked.rows(1, 3, 3)):
            model(x[1:])
        with attachment.replaying(picked), pytest.raises(SteeringError, match="does not fit"):
            model(x[1:])
        beyond = Selection({0: Picked(picked.layers[0].indices + 20, picked.layers[0].signs)})
        with attachment.replaying(beyond), pytest.raises(SteeringError, match="does not fit"):
            model(x)


def test_a_replayed_selection_keeps_the_signs_that_it_was_recorded_with() -> None:
    model, x = Ffns(), batch()
    with attach(model, boosted(layers=(0,)), anatomy=model.anatomy()) as attachment:
        with attachment.recording_selection() as picked:
            model.watch()(x)
        recorded = model.seen[0].gather(-1, picked.layers[0].indices.long().view(3, 5, 4))
        with attachment.replaying(Selection({0: Picked(picked.layers[0].indices, -picked.layers[0].signs)})):
            model(x)
        turned = model.seen[0].gather(-1, picked.layers[0].indices.long().view(3, 5, 4))
    assert torch.equal(turned, -recorded)


def test_a_selection_holds_one_forward_pass() -> None:
    model, x = Ffns(), batch()
    with attach(model, boosted(), anatomy=model.anatomy()) as attachment, attachment.recording_selection():
        model(x)
        with pytest.raises(SteeringError, match="one forward pass"):
            model(x)


def test_two_attachments_act_in_their_order_and_detach_in_any() -> None:
    model, x = Ffns(), batch()
    plain = model(x)
    first = attach(model, boosted(layers=(0,)), anatomy=model.anatomy())
    second = attach(model, boosted(layers=(0,), scale=3.0, fraction=0.1), anatomy=model.anatomy())
    both = model(x)
    keys = boost_keys(first_keys(model, x), 0.2, 1.0, "magnitude", "abs", True)
    model.watch()(x)
    assert torch.equal(model.seen[0], boost_keys(keys, 0.1, 3.0, "magnitude", "abs", True))
    first.detach()
    with attach(model, boosted(layers=(0,), scale=3.0, fraction=0.1), anatomy=model.anatomy()):
        second.detach()
        assert not torch.equal(model(x), both)
    first.detach()
    assert torch.equal(model(x), plain)


def test_hooks_are_gone_after_an_exception_and_others_stay() -> None:
    model = Ffns()
    theirs = model.layers[0].down.register_forward_pre_hook(lambda *_: None)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError), attach(model, boosted(), anatomy=model.anatomy()):
        model(torch.ones(1, 2, 3, dtype=torch.float64))
    assert list(model.layers[0].down._forward_pre_hooks) == [theirs.id]  # type: ignore[union-attr]
    assert not model.layers[1].down._forward_pre_hooks  # type: ignore[union-attr]


def test_an_unknown_phase_is_refused() -> None:
    model = Ffns()
    with attach(model, boosted(), anatomy=model.anatomy()) as attachment, pytest.raises(SteeringError, match="phase"):
        attachment.phase = "test"  # type: ignore[assignment]
