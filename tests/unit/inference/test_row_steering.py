from __future__ import annotations

import pytest

from steerline.config.safr import VmaskSpec
from steerline.config.steering import EntropySpec, SteeringSpec
from steerline.errors import SteeringError
from steerline.inference.row_steering import RowSteering, acting_part
from steerline.models.anatomy import anatomy
from tests.tiny import tiny_model
from tests.unit.inference.tiny_backend import boosted, scaled

MODEL = tiny_model("llama")
SITES = anatomy(MODEL)


def num_hooks() -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in MODEL.modules())


@pytest.mark.parametrize(
    ("specs", "kinds"),
    [
        ([SteeringSpec(), boosted(0.0)], 0),
        ([boosted(strength) for strength in (0.1, 0.5, 1.0, 2.0)], 1),
        ([boosted(1.0, active_in="train"), boosted(1.0, active_in="eval")], 1),
        ([boosted(1.0), boosted(1.0, select="magnitude")], 2),
        ([scaled(0.5), scaled(1.0), boosted(1.0)], 2),
    ],
)
def test_rows_that_differ_in_strengths_alone_share_hooks(specs: list[SteeringSpec], kinds: int) -> None:
    steering = RowSteering(MODEL, SITES)
    steering.hold([acting_part(spec) for spec in specs])
    assert num_hooks() == kinds * len(SITES.ffn_keys)
    steering.hold([])
    assert num_hooks() == 0


def test_hooks_stay_while_a_row_needs_them() -> None:
    steering = RowSteering(MODEL, SITES)
    steering.hold([boosted(1.0), scaled(1.0)])
    before = {key for module in MODEL.modules() for key in module._forward_pre_hooks}
    steering.hold([boosted(0.3), boosted(1.0, select="magnitude")])
    after = {key for module in MODEL.modules() for key in module._forward_pre_hooks}
    assert before < after
    steering.hold([])
    assert num_hooks() == 0


def test_a_spec_that_does_not_fit_leaves_no_hook() -> None:
    with pytest.raises(SteeringError):
        RowSteering(MODEL, SITES).check(boosted(1.0, layers=(9,)))
    assert num_hooks() == 0


def test_strengths_are_those_of_each_token() -> None:
    steering = RowSteering(MODEL, SITES)
    specs = [boosted(0.5), SteeringSpec(), scaled(0.25), boosted(1.0)]
    steering.hold(specs)
    (_, boost, no_scale), (_, no_boost, scale) = steering.strengths(specs, [1, 2, 3, 1])
    assert no_scale is None
    assert no_boost is None
    assert boost is not None
    assert scale is not None
    assert boost.tolist() == [0.5, 0, 0, 0, 0, 0, 1]
    assert scale.tolist() == [0, 0, 0, 0.25, 0.25, 0.25, 0]
    steering.hold([])


def test_terms_of_the_training_loss_do_nothing_and_a_gate_is_refused() -> None:
    assert acting_part(None) == acting_part(SteeringSpec(entropy=EntropySpec())) == SteeringSpec()
    with pytest.raises(SteeringError, match="gate"):
        acting_part(SteeringSpec(vmask=VmaskSpec()))
