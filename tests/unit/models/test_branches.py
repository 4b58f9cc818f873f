"""The branches of a block, by family."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steerline.errors import AnatomyError
from steerline.models.anatomy import anatomy
from steerline.models.branches import residual_branches
from tests.tiny import TINY_FAMILIES, tiny_model


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_layer_of_every_family_has_two_branches_of_its_own(family: str) -> None:
    model = tiny_model(family)
    branches = residual_branches(model, anatomy(model))
    modules = [module for layer in branches.values() for module in (layer.attention, layer.ffn)]
    assert list(branches) == [0, 1]
    assert len({id(module) for module in modules}) == 4


def test_a_norm_between_a_branch_and_the_residual_stream_belongs_to_the_branch() -> None:
    model = tiny_model("gemma2")
    names = {id(module): name for name, module in model.named_modules()}
    branch = residual_branches(model, anatomy(model))[1]
    assert names[id(branch.attention)] == "model.layers.1.post_attention_layernorm"
    assert names[id(branch.ffn)] == "model.layers.1.post_feedforward_layernorm"


def test_a_family_that_no_table_lists_is_refused() -> None:
    model = tiny_model("llama")
    with pytest.raises(AnatomyError, match="residual stream") as error:
        residual_branches(model, replace(anatomy(model), family="other"))
    assert error.value.fix == "scale whole blocks: `split: false`"
