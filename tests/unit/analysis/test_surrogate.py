from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from steerline.analysis.infosteer.surrogate import surrogates, value_vectors
from steerline.errors import EvaluationError
from tests.tiny import tiny_model, tiny_tokenizer


def test_surrogates_decode_the_rows_of_the_value_projection() -> None:
    model = tiny_model("llama")
    table = surrogates(model, memories={1: [3, 0]}, top=4)
    down, head = model.model.layers[1].mlp.down_proj.weight, model.lm_head.weight
    p = (down[:, [3, 0]].T @ head.T).softmax(-1).detach()
    entropy = -(p * p.log()).sum(-1)
    assert table.layer.tolist() == [1, 1]
    assert table.memory.tolist() == [3, 0]
    assert table.entropy == pytest.approx(entropy.numpy(), rel=1e-5)
    assert table.specificity == pytest.approx(1 - entropy.numpy() / math.log(head.shape[0]), rel=1e-4)
    assert table.top_ids.tolist() == p.topk(4).indices.tolist()
    assert table.top_probabilities == pytest.approx(p.topk(4).values.numpy(), rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "opt", "phi", "llama"])
def test_value_vectors_are_rows_of_the_weights_whatever_their_layout(family: str) -> None:
    from steerline.models.anatomy import anatomy

    model = tiny_model(family)
    site = anatomy(model).ffn_keys[0]
    weight = site.module.weight if family == "gpt2" else site.module.weight.T
    with torch.no_grad():
        vectors = value_vectors(site.module, np.array([5, 1]), site.width)
    assert torch.allclose(vectors, weight[[5, 1]], atol=1e-6)


def test_steering_hooks_do_not_change_memories() -> None:
    model = tiny_model("llama")
    plain = surrogates(model, memories={0: [1]})
    handle = model.model.layers[0].mlp.down_proj.register_forward_pre_hook(lambda _m, args: (args[0] * 0 + 1,))
    assert surrogates(model, memories={0: [1]}).entropy == pytest.approx(plain.entropy)
    handle.remove()


def test_all_memories_are_the_default_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    whole = surrogates(model)
    assert len(whole) == 2 * 64
    monkeypatch.setattr("steerline.analysis.infosteer.surrogate.CHUNK", 7)
    assert surrogates(model).entropy == pytest.approx(whole.entropy, rel=1e-5)


def test_a_memory_that_writes_one_token_is_specialised_and_its_opposite_is_not() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight.copy_(torch.eye(*model.lm_head.weight.shape))
        model.model.layers[0].mlp.down_proj.weight[:, 7] = 0
        model.model.layers[0].mlp.down_proj.weight[3, 7] = 50
    table = surrogates(model, memories={0: None})
    best = table.most_specific(1)
    assert (best.memory.tolist(), best.top_ids[0, 0]) == ([7], 3)
    assert best.specificity[0] == pytest.approx(1, abs=1e-3)
    assert table.specialised(0.01).memory.tolist() == [7]
    assert surrogates(model, memories={0: [7]}, sign=-1).specificity[0] < 0.01
    rows = best.rows(tiny_tokenizer())
    assert rows[0]["memory"] == 7
    assert len(rows[0]["tokens"]) == 10


def test_rms_norm_makes_the_length_of_a_vector_irrelevant() -> None:
    model = tiny_model("llama")
    before = surrogates(model, memories={0: [2]}, norm="rms").entropy
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[:, 2] *= 9
    assert surrogates(model, memories={0: [2]}, norm="rms").entropy == pytest.approx(before, rel=1e-5)


def test_what_does_not_exist_is_refused() -> None:
    model = tiny_model("llama")
    with pytest.raises(EvaluationError, match="no such layer"):
        surrogates(model, memories={2: None})
    with pytest.raises(EvaluationError, match="no such memory"):
        surrogates(model, memories={0: [64]})
    with pytest.raises(EvaluationError, match="no memory"):
        surrogates(model, memories={})
