"""LoRA adapters apart from their base: which of them can act beside it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from steerline.errors import ModelError
from steerline.models.adapter import WEIGHTS, obstacle, read_adapter
from tests.adapters import save_adapter
from tests.tiny import tiny_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens"),
        ({"init_lora_weights": "gaussian", "use_rslora": True, "target_modules": ["q_proj"]}, None),
    ],
)
def test_what_more_than_products_beside_linear_maps_does_is_named(
    config: dict[str, Any], named: str | None, tmp_path: Path
) -> None:
    found = obstacle(save_adapter(tiny_model("llama"), tmp_path, **config), tiny_model("llama"))
    assert found is None if named is None else found is not None and named in found


def test_matrices_take_the_base_precision_and_nothing_else_is_kept(tmp_path: Path) -> None:
    save_adapter(tiny_model("llama"), tmp_path, r=3, target_modules=["v_proj"])
    adapter = read_adapter(tmp_path, tiny_model("llama"), torch.bfloat16, CPU)
    assert list(adapter.maps) == [f"model.layers.{layer}.self_attn.v_proj" for layer in range(2)]
    shapes = {(tuple(one.down.shape), tuple(one.up.shape), one.up.dtype) for one in adapter.maps.values()}
    assert shapes == {((32, 3), (3, 16), torch.bfloat16)}


@pytest.mark.parametrize("damage", ["rank", "base", "missing", "nan", "scale", "empty"])
def test_an_adapter_that_does_not_fit_or_is_damaged_is_refused(damage: str, tmp_path: Path) -> None:
    save_adapter(tiny_model("llama"), tmp_path, r=4)
    config, weights = tmp_path / "adapter_config.json", tmp_path / WEIGHTS
    tensors = load_file(weights)
    name = next(iter(tensors))
    if damage == "rank":
        config.write_text(json.dumps({**json.loads(config.read_text()), "r": 2}))
    if damage == "scale":  # more than float32 can say
        config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 10**60}))
    if damage == "missing":
        tensors.pop(name)
    if damage == "nan":
        tensors[name][0, 0] = torch.nan
    save_file({} if damage == "empty" else tensors, weights)
    base = tiny_model("llama", hidden=64 if damage == "base" else 32)
    with pytest.raises(ModelError, match="does not fit its base"):
        read_adapter(tmp_path, base, torch.float32, CPU)
