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
    with RowSteering(MODEL, SITES, [acting_part(spec) for spec in specs]):
        assert num_hooks() == kinds * len(SITES.ffn_keys)
    assert num_hooks() == 0


def test_a_spec_that_does_not_fit_leaves_no_hook() -> None:
    with pytest.raises(SteeringError):
        RowSteering(MODEL, SITES, [boosted(1.0), boosted(1.0, layers=(9,))])
    assert num_hooks() == 0


def test_terms_of_the_training_loss_do_nothing_and_a_gate_is_refused() -> None:
    assert acting_part(None) == acting_part(SteeringSpec(entropy=EntropySpec())) == SteeringSpec()
    with pytest.raises(SteeringError, match="gate"):
        acting_part(SteeringSpec(vmask=VmaskSpec()))
