"""Casting a model's weights leaves its rotary frequencies in fp32."""

from __future__ import annotations

import pytest
import torch

from steerline.models.buffers import buffers_kept
from tests.tiny import DECODER_FAMILIES, tiny_model
from tests.unit.models.files import logits_of


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_a_cast_model_computes_what_the_same_weights_compute_from_disk(family: str, tmp_path: object) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny_model(family)
    with buffers_kept(model):
        model.to(torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    model.save_pretrained(str(tmp_path))
    attention = "eager" if family == "gemma2" else "sdpa"
    reloaded = AutoModelForCausalLM.from_pretrained(str(tmp_path), dtype=torch.bfloat16, attn_implementation=attention)
    assert torch.equal(logits_of(model), logits_of(reloaded))


def test_a_plain_cast_would_change_the_logits() -> None:
    kept, cast = tiny_model("llama"), tiny_model("llama").to(torch.bfloat16)
    with buffers_kept(kept):
        kept.to(torch.bfloat16)
    assert not torch.equal(logits_of(kept), logits_of(cast))


def test_buffers_stay_unsaved() -> None:
    model = tiny_model("llama")
    before = model.state_dict().keys()
    with buffers_kept(model):
        model.to(torch.bfloat16)
    assert model.state_dict().keys() == before
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
