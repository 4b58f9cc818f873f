"""Packing and padding change nothing that a model says about an example, in every decoder family and kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from steerline.data import batch as batch_module
from steerline.data.batch import Row, collate
from steerline.data.isolation import verify_isolation
from steerline.data.tokens import TokenizedExample
from steerline.errors import DataError
from tests.tiny import DECODER_FAMILIES, tiny_model

_WINDOW: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 4},
    "phi3": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "gemma2": {"sliding_window": 4},
    "gemma3": {"sliding_window": 4},
}
_MODELS = [(family, {}) for family in DECODER_FAMILIES] + list(_WINDOW.items())
# Transformers' Gemma 2 has no sdpa kernel.
CASES = [
    (*model, kernel) for model in _MODELS for kernel in ("sdpa", "eager") if (model[0], kernel) != ("gemma2", "sdpa")
]


def _examples() -> list[TokenizedExample]:
    generator = np.random.default_rng(0)
    lengths = (9, 1, 5, 12, 7, 3)
    return [
        TokenizedExample(f"e{n}", generator.integers(4, 200, length).astype(np.int32), np.ones(length, np.bool_))
        for n, length in enumerate(lengths)
    ]


@torch.no_grad()
def _logits(model: PreTrainedModel, rows: list[Row], multiple: int = 8) -> list[Tensor]:
    """The logits [T, V] of each example, in order."""
    batch = collate(rows, 0, multiple)
    logits = model(**batch.model_inputs(model.config)).logits
    return [
        logits[index][batch.segment_ids[index] == number]
        for index, row in enumerate(rows)
        for number in range(1, len(row) + 1)
    ]


@pytest.mark.parametrize(("family", "window", "kernel"), CASES, ids=lambda value: str(value) if value else "full")
def test_an_example_means_the_same_alone_padded_and_packed(family: str, window: dict[str, Any], kernel: str) -> None:
    # Eager kernels take the softmax in float32, where the mask value of float64 is minus infinity: a padded position
    # that a sliding window lets see nothing becomes NaN, which spreads. So they are run in float32.
    dtype, tolerance = (torch.float64, 1e-12) if kernel == "sdpa" else (torch.float32, 2e-5)
    model = tiny_model(family, dtype=dtype, attention=kernel, **window)
    examples = _examples()
    alone = [_logits(model, [(example,)], 1)[0] for example in examples]
    padded = _logits(model, [(example,) for example in examples])
    packed = _logits(model, [tuple(examples[:3]), tuple(examples[3:5]), (examples[5],)])
    for one, two, three in zip(alone, padded, packed, strict=True):
        torch.testing.assert_close(two, one, rtol=0, atol=tolerance)
        torch.testing.assert_close(three, one, rtol=0, atol=tolerance)


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_a_model_that_keeps_examples_apart_passes_and_keeps_its_mode(family: str) -> None:
    model = tiny_model(family).train()
    assert verify_isolation(model) < 1e-5
    assert model.training


def test_a_model_that_lets_examples_see_each_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # OPT ignores position ids when it builds its mask, and gets a ready-made one for that reason.
    monkeypatch.setattr(batch_module, "_MASK_READY_MADE", frozenset())
    with pytest.raises(DataError, match="see each other") as caught:
        verify_isolation(tiny_model("opt"))
    assert "data.packing: false" in str(caught.value.fix)


def test_families_never_tried_are_found_out() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("bloom", vocab_size=64, hidden_size=32, n_layer=2, n_head=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            parameter.data.normal_(std=0.2)
    with pytest.raises(DataError, match="see each other"):
        verify_isolation(model)
