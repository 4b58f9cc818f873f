"""Attention probabilities that are computed again are those of the model's own eager attention, in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from steerline.config.safr import InteractionSpec
from steerline.config.steering import SteeringSpec
from steerline.data.batch import Batch, collate
from steerline.models.anatomy import anatomy
from steerline.steering import attach
from steerline.steering.attention_capture import AttentionCall, attention_probabilities, tap
from steerline.steering.safr import interaction_loss
from tests.law.conftest import sample_rows
from tests.tiny import DECODER_FAMILIES, TINY_FAMILIES, tiny_model

BATCH = collate(sample_rows()[:4], 0)
SPEC = SteeringSpec(interaction=InteractionSpec())
# Windows narrower than the batch, for the families that have them.
WINDOWED: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 6},
    "gemma2": {"sliding_window": 6},
    "gemma3": {"sliding_window": 6},
}


def kernels(family: str) -> list[str]:
    return ["eager"] if family == "gemma2" else ["eager", "sdpa"]


def eager_attentions(family: str, batch: Batch, **overrides: Any) -> tuple[Tensor, ...]:
    """What the eager kernel returns, [B, H, T, T] of each layer, 0 for padding queries."""
    model = tiny_model(family, attention="eager", **overrides)
    found = model(**batch.model_inputs(model.config), output_attentions=True).attentions
    return tuple(A.masked_fill(~batch.token_mask[:, None, :, None], 0) for A in found)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_captured_probabilities_are_those_of_eager_attention(family: str) -> None:
    overrides = WINDOWED.get(family, {})
    expected = eager_attentions(family, BATCH, **overrides)
    for kernel in kernels(family):
        model = tiny_model(family, attention=kernel, **overrides)
        body = anatomy(model)
        calls: list[AttentionCall] = []
        taps = [tap(site, body.family, calls.append) for site in body.attention]
        plain = model(**BATCH.model_inputs(model.config))[0]
        for one in taps:
            one.remove()
        assert torch.equal(plain, model(**BATCH.model_inputs(model.config))[0])
        assert len(calls) == len(expected)
        for call, A in zip(calls, expected, strict=True):
            torch.testing.assert_close(attention_probabilities(call, BATCH.segment_ids), A, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_interaction_term_is_the_loss_of_eager_attention(family: str) -> None:
    causal = family in DECODER_FAMILIES
    attentions = eager_attentions(family, BATCH)
    expected = sum(interaction_loss(A, BATCH.token_mask, "masked", causal) for A in attentions)
    model = tiny_model(family)
    with (
        attach(model, SPEC) as attachment,
        attachment.safr.recording(BATCH, train=True) as recording,
    ):
        model(**BATCH.model_inputs(model.config))
    term = recording.terms()["interaction"]
    assert term.layers == len(attentions)
    torch.testing.assert_close(term.sum / BATCH.token_mask.sum(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_examples_of_a_packed_row_do_not_see_each_other(family: str) -> None:
    rows = sample_rows()[:4]
    packed = collate([rows[0] + rows[1], rows[2] + rows[3]], 0)
    sums = []
    for batch in (BATCH, packed):
        model = tiny_model(family, dtype=torch.float64)
        with attach(model, SPEC) as attachment, attachment.safr.recording(batch, train=True) as recording:
            model(**batch.model_inputs(model.config))
        sums.append(recording.terms()["interaction"].sum)
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-6, atol=0)
