"""Architectures that no table lists: found by structure, named by hand, or refused with the way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from steerline.errors import AnatomyError
from steerline.models.anatomy import anatomy
from steerline.models.proof import prove
from tests.tiny import tiny_model

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED_QUERY = ("stablelm", "starcoder2", "olmo2", "granite", "cohere", "mixtral", "qwen3_moe")


def build(model_type: str, **overrides: Any) -> Any:
    kv_heads = {"num_key_value_heads": 2} if model_type in GROUPED_QUERY else {}
    config = AutoConfig.for_model(model_type, **{**SIZES, **kv_heads, **overrides})
    auto = AutoModelForMaskedLM if model_type in ("deberta-v2", "mpnet") else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return auto.from_config(config).eval()


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("bloom", "transformer.h.{}.mlp.dense_4h_to_h"),
        ("falcon", "transformer.h.{}.mlp.dense_4h_to_h"),
        ("mpt", "transformer.blocks.{}.ffn.down_proj"),
        ("starcoder2", "model.layers.{}.mlp.c_proj"),
        ("stablelm", "model.layers.{}.mlp.down_proj"),
        ("olmo2", "model.layers.{}.mlp.down_proj"),
        ("granite", "model.layers.{}.mlp.down_proj"),
        ("cohere", "model.layers.{}.mlp.down_proj"),
        ("biogpt", "biogpt.layers.{}.fc2"),
        ("openai-gpt", "transformer.h.{}.mlp.c_proj"),
        ("deberta-v2", "deberta.encoder.layer.{}.output.dense"),
        ("mpnet", "mpnet.encoder.layer.{}.output.dense"),
    ],
)
def test_an_architecture_outside_the_table_is_found_and_proved(model_type: str, keys: str) -> None:
    model = build(model_type)
    found = anatomy(model)
    assert [site.path for site in found.ffn_keys] == [keys.format(layer) for layer in range(2)]
    assert len(found.attention) == 2
    prove(model, found)


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe"])
def test_routed_experts_are_refused_because_their_keys_are_not_one_tensor(model_type: str) -> None:
    model = build(model_type, num_local_experts=2, num_experts=2, moe_intermediate_size=16)
    with pytest.raises(AnatomyError, match="not one tensor") as error:
        anatomy(model)
    assert "model.layers.0.mlp" in str(error.value)


def test_layers_that_share_their_weights_are_refused_with_the_key_to_set() -> None:
    model = build_albert()
    with pytest.raises(AnatomyError, match="residual blocks") as error:
        anatomy(model)
    assert "model.sites.block_out" in str(error.value.fix)
    assert "albert_layer_groups" in str(error.value.got)


def build_albert() -> Any:
    config = AutoConfig.for_model("albert", **SIZES, embedding_size=16)
    return AutoModelForMaskedLM.from_config(config)


def test_two_projections_back_to_the_hidden_size_are_not_guessed_between() -> None:
    model = build("stablelm")
    for layer in model.model.layers:
        layer.adapter_up = torch.nn.Linear(8, 32)
    with pytest.raises(AnatomyError, match="cannot tell which projection") as error:
        anatomy(model)
    assert "mlp.down_proj (48 -> 32)" in str(error.value.got)
    assert "adapter_up (8 -> 32)" in str(error.value.got)
    assert 'model.sites.ffn_keys: "model.layers.{layer}.mlp.down_proj"' in str(error.value.fix)

    found = anatomy(model, {"ffn_keys": "model.layers.{layer}.mlp.down_proj"})
    assert [site.width for site in found.ffn_keys] == [48, 48]


def test_an_ffn_as_wide_as_the_model_is_not_guessed_but_can_be_named() -> None:
    model = build("starcoder2", intermediate_size=32)
    with pytest.raises(AnatomyError):
        anatomy(model)  # two projections of 32 -> 32
    found = anatomy(model, {"ffn_keys": "model.layers.{layer}.mlp.c_proj"})
    assert found.ffn_keys[0].width == 32


def test_a_site_named_by_hand_wins_over_the_table() -> None:
    model = tiny_model("llama")
    found = anatomy(model, {"ffn_keys": "model.layers.{layer}.self_attn.o_proj"})
    assert [site.path for site in found.ffn_keys] == [f"model.layers.{layer}.self_attn.o_proj" for layer in range(2)]
    assert found.block_out == anatomy(model).block_out


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ({"ffn_key": "x"}, "did you mean `ffn_keys`"),
        ({"ffn_keys": "model.layers.0.mlp.down_proj"}, "a path with {layer} in it"),
        ({"ffn_keys": "model.layers.{layer}.mlp.dwn_proj"}, "model.layers.0.mlp.down_proj"),
        ({"logits": "lm_haed"}, "lm_head"),
    ],
)
def test_a_wrong_site_name_or_path_is_answered_with_the_nearest_right_one(sites: dict[str, str], message: str) -> None:
    with pytest.raises(AnatomyError) as error:
        anatomy(tiny_model("llama"), sites)
    assert message in str(error.value)
