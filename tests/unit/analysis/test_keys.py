from __future__ import annotations

import numpy as np
import pytest
import torch

from steerline.analysis.infosteer.histogram import KeyHistogram
from steerline.analysis.infosteer.keys import measure_keys, reading_keys
from steerline.data.batch import Batch, collate
from steerline.data.examples import Example
from steerline.data.tokens import tokenize_all
from steerline.errors import EvaluationError
from steerline.models.anatomy import Site
from steerline.steering.infosteer import key_entropy
from tests.tiny import DECODER_FAMILIES, tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def batch(*texts: str) -> Batch:
    examples = [Example(str(i), text, "yes") for i, text in enumerate(texts)]
    return collate([(row,) for row in tokenize_all(examples, TOKENIZER, "all")], pad_id=0)


TEXTS = ("one", "a longer text", "the longest text of them all")


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_measurement_equals_each_text_alone_in_every_family(family: str) -> None:
    model = tiny_model(family)
    measured = measure_keys(model, [batch(*TEXTS)])
    alone: dict[int, list[torch.Tensor]] = {}

    def read(site: Site, keys: torch.Tensor) -> None:
        assert site.layer is not None
        alone.setdefault(site.layer, []).append(keys.reshape(-1, keys.shape[-1]))

    with torch.no_grad(), reading_keys(model, read):
        for text in TEXTS:
            ids = tokenize_all([Example("", text, "yes")], TOKENIZER, "all")[0].input_ids
            model(torch.from_numpy(ids).long()[None])
    histogram = KeyHistogram.empty(sorted(alone))
    for layer, parts in alone.items():
        keys = torch.cat(parts)
        assert measured.num_tokens == len(keys)
        assert measured.entropy[layer] == pytest.approx(float(key_entropy(keys).mean()), rel=1e-4)
        histogram.add(layer, keys)
    assert measured.layers == histogram.layers
    # Padding changes the last bits of a few keys, which may move them to the neighbouring bin.
    moved = np.abs(np.cumsum(measured.histogram.counts, axis=1) - np.cumsum(histogram.counts, axis=1)).max()
    assert moved <= 2
    assert measured.histogram.counts.sum(axis=1) == pytest.approx(measured.num_tokens * np.array(measured.num_keys))


def test_effective_memories_lie_between_one_and_all_keys() -> None:
    measured = measure_keys(tiny_model("llama"), [batch("some text")])
    assert (measured.effective_memories > 1).all()
    assert (measured.effective_memories <= measured.num_keys).all()


def test_keys_are_read_behind_steering_that_was_attached_before() -> None:
    model = tiny_model("llama")
    plain = measure_keys(model, [batch(*TEXTS)])
    handle = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda _m, args: (args[0] * 2,))
    doubled = measure_keys(model, [batch(*TEXTS)])
    handle.remove()
    assert doubled.histogram.quantile(0.75, "magnitude")[1] == pytest.approx(
        2 * plain.histogram.quantile(0.75, "magnitude")[1], rel=0.01
    )
    assert doubled.entropy[1] == pytest.approx(plain.entropy[1], rel=1e-5)


def test_hooks_are_gone_after_an_error_and_no_tokens_are_refused() -> None:
    model = tiny_model("llama")
    with pytest.raises(EvaluationError, match="no tokens"):
        measure_keys(model, [])
    model.model.layers[0].mlp.up_proj.weight.data[0] = float("nan")
    with pytest.raises(EvaluationError, match="not finite"):
        measure_keys(model, [batch("x")])
    assert not any(module._forward_pre_hooks for module in model.modules())
