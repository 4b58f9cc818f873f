"""Adapters: what is trained, what is frozen, what merging gives, and which names are refused."""

from __future__ import annotations

import pytest
import torch

from steerline.config.model import LoraSpec
from steerline.errors import ModelError
from steerline.models.lora import add_lora, merge_lora
from tests.tiny import DECODER_FAMILIES, tiny_model
from tests.unit.models.files import logits_of


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_an_adapted_model_starts_as_the_plain_one_and_trains_its_adapters_alone(family: str) -> None:
    plain = logits_of(tiny_model(family))
    model = add_lora(tiny_model(family), LoraSpec(rank=2))
    assert torch.equal(logits_of(model), plain)
    model(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained
    assert all("lora_" in name for name in trained)


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_all_linear_adapts_the_value_projection_of_every_ffn_and_never_the_head(family: str) -> None:
    from steerline.models.anatomy import anatomy

    model = add_lora(tiny_model(family), LoraSpec(rank=2))
    found = anatomy(model)
    assert all("lora_A" in dict(site.module.named_children()) for site in found.ffn_keys)
    assert found.logits is not None
    assert "lora_A" not in dict(found.logits.module.named_children())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_merging_keeps_what_the_adapters_learned(family: str) -> None:
    model = add_lora(tiny_model(family), LoraSpec(rank=2, alpha=8))
    plain = logits_of(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted = logits_of(model)
    assert (adapted - plain).abs().max() > 1e-2
    merged = merge_lora(model)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(logits_of(merged), adapted, rtol=1e-5, atol=1e-5)


def test_adapters_have_the_models_precision_and_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    spec = LoraSpec(rank=2)
    first = add_lora(tiny_model("llama", dtype=torch.bfloat16), spec, seed=1).state_dict()
    again = add_lora(tiny_model("llama", dtype=torch.bfloat16), spec, seed=1).state_dict()
    other = add_lora(tiny_model("llama", dtype=torch.bfloat16), spec, seed=2).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert {value.dtype for value in first.values()} == {torch.bfloat16}
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_named_layers_alone_are_adapted() -> None:
    model = add_lora(tiny_model("llama"), LoraSpec(target_modules=("q_proj", "v_proj")))
    adapted = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name, _ in model.named_parameters() if "lora_A" in name}
    assert adapted == {"q_proj", "v_proj"}


def test_a_name_that_no_layer_has_is_answered_with_those_there_are() -> None:
    with pytest.raises(ModelError, match="no linear layer") as error:
        add_lora(tiny_model("llama"), LoraSpec(target_modules=("q_proj", "vproj")))
    assert error.value.got == "vproj"
    assert "v_proj" in str(error.value.expected)


def test_an_adapter_on_a_tied_head_is_refused_and_on_a_free_one_allowed() -> None:
    spec = LoraSpec(target_modules=("lm_head",))
    with pytest.raises(ModelError, match="share one weight"):
        add_lora(tiny_model("llama", tie_word_embeddings=True), spec)
    add_lora(tiny_model("llama", tie_word_embeddings=False), spec)
