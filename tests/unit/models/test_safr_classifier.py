"""The paper's classifier computes what it says, does not see padding, and is an ordinary Transformers model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

from steerline.config.model import LocalModel, ModelSpec, RandomModel, WordTokenizer
from steerline.errors import ModelError
from steerline.models.anatomy import anatomy
from steerline.models.card import ModelCard
from steerline.models.export import export_model
from steerline.models.facts import model_facts
from steerline.models.load import load_model
from steerline.models.proof import prove
from steerline.models.safr_classifier import (
    SafrClassifierConfig,
    SafrClassifierForSequenceClassification,
    SafrLayer,
    sinusoids,
)
from steerline.models.verify import verify_export
from steerline.models.word_tokenizer import word_tokenizer

SMALL = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "vmask_hidden_size": 8}
TEXTS = ["The cat sat", "The dog sat", "a cat sat on the dog"]


def model(**changes: Any) -> SafrClassifierForSequenceClassification:
    kernel = changes.pop("attention", "eager")
    torch.manual_seed(0)
    config = SafrClassifierConfig(**{**SMALL, **changes})
    made = AutoModelForSequenceClassification.from_config(config, attn_implementation=kernel).eval()
    assert isinstance(made, SafrClassifierForSequenceClassification)
    return made


def ids(*lengths: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    width = max(lengths)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return torch.randint(2, 40, (len(lengths), width)) * mask, mask


def by_hand(m: SafrClassifierForSequenceClassification, tokens: Tensor) -> Tensor:
    """The logits of unpadded rows, written from the paper's description."""
    body = m.encoder
    e = body.embedding.tokens.weight[tokens] * 16**0.5
    assert body.embedding.gate is not None
    h = e * body.embedding.gate.log_probabilities(e).exp()[..., 1:] + sinusoids(e.shape[1], 16, like=e)
    for layer in map(_layer, body.layers):
        a = layer.attention
        q, k, v = (p(h).unflatten(-1, (4, 4)).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
        weights = (q @ k.mT / 2).softmax(-1)
        h = layer.attention_norm(h + a.o_proj((weights @ v).transpose(1, 2).flatten(2)))
        h = layer.ffn_norm(h + layer.ffn_out(torch.relu(layer.ffn_in(h))))
    logits: Tensor = m.classifier(h.mean(1))
    return logits


def _layer(module: Any) -> SafrLayer:
    assert isinstance(module, SafrLayer)
    return module


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_the_logits_are_those_of_the_description(layers: int, kernel: str) -> None:
    m = model(num_hidden_layers=layers, attention=kernel)
    tokens, _ = ids(7, 7)
    torch.testing.assert_close(m(tokens).logits, by_hand(m, tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_padding_changes_no_logit_under_masked_pooling(kernel: str) -> None:
    m = model(attention=kernel, num_hidden_layers=2)
    tokens, mask = ids(3, 9)
    alone = m(tokens[:1, :3]).logits
    torch.testing.assert_close(m(tokens, attention_mask=mask).logits[:1], alone, rtol=1e-5, atol=1e-5)


def test_the_reference_pooling_counts_padding_in_its_mean() -> None:
    m = model(pooling="all")
    tokens, mask = ids(3, 9)
    hidden = m.encoder(tokens, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(m(tokens, attention_mask=mask).logits, m.classifier(hidden.mean(1)))


def test_positions_are_sines_and_cosines_in_turn() -> None:
    found = sinusoids(5, 4, like=torch.zeros(1))
    assert found[0].tolist() == [0, 1, 0, 1]
    torch.testing.assert_close(found[3], torch.tensor([3.0, 3.0, 0.03, 0.03]).sin() * torch.tensor([1.0, 0, 1, 0])
                               + torch.tensor([3.0, 3.0, 0.03, 0.03]).cos() * torch.tensor([0.0, 1, 0, 1]))  # fmt: skip


def test_embeddings_start_at_unit_variance_and_linear_layers_as_in_pytorch() -> None:
    m = model(vocab_size=4000)
    assert float(m.encoder.embedding.tokens.weight.detach().std()) == pytest.approx(1, abs=0.02)
    weight = _layer(m.encoder.layers[0]).ffn_in.weight.detach()
    assert float(weight.abs().max()) == pytest.approx(1 / 4, rel=0.05)


def test_the_sites_are_found_and_prove_right_and_the_embedding_site_is_the_masked_one() -> None:
    m = model(num_hidden_layers=2)
    found = anatomy(m)
    prove(m, found)
    assert found.embed.path == "encoder.embedding"
    assert [site.width for site in found.ffn_keys] == [24, 24]
    seen: list[Tensor] = []
    found.embed.module.register_forward_hook(lambda _m, _i, out: seen.append(out))
    tokens, _ = ids(4)
    m(tokens)
    e = m.encoder.embedding.tokens(tokens) * 4
    assert m.encoder.embedding.gate is not None
    torch.testing.assert_close(seen[0], m.encoder.embedding.gate(e)[0])


def test_attention_probabilities_are_returned_on_request_under_the_eager_kernel() -> None:
    m = model(num_hidden_layers=2)
    tokens, mask = ids(3, 6)
    attentions = m(tokens, attention_mask=mask, output_attentions=True).attentions
    assert [tuple(a.shape) for a in attentions] == [(2, 4, 6, 6)] * 2
    assert float(attentions[0][0, :, :3, 3:].detach().abs().max()) == 0


def test_gradients_reach_every_weight_with_and_without_activation_checkpointing() -> None:
    tokens, mask = ids(5, 8)
    found = []
    for checkpointing in (False, True):
        m = model(num_hidden_layers=2, dropout=0.0).train()
        if checkpointing:
            m.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        torch.manual_seed(3)
        m(tokens, attention_mask=mask, labels=torch.tensor([0, 1])).loss.backward()
        found.append({name: p.grad for name, p in m.named_parameters()})
    assert all(grad is not None for grad in found[0].values())
    torch.testing.assert_close(found[0], found[1])


def test_without_a_gate_the_embedding_is_the_scaled_one() -> None:
    m = model(vmask_hidden_size=None)
    tokens, _ = ids(4)
    torch.testing.assert_close(m.encoder.embedding(tokens), m.encoder.embedding.tokens(tokens) * 4)


@pytest.mark.parametrize("fields", [{"num_attention_heads": 3}, {"pooling": "max"}])
def test_sizes_that_do_not_go_together_are_refused(fields: dict[str, Any]) -> None:
    source = RandomModel(kind="random", architecture="safr_classifier", overrides={**SMALL, **fields})
    with pytest.raises(ModelError):
        load_model(ModelSpec(source=source), classes=("no", "yes"))


def spec(**overrides: Any) -> ModelSpec:
    sizes = {name: value for name, value in SMALL.items() if name != "vocab_size"}
    source = RandomModel(
        kind="random",
        architecture="safr_classifier",
        overrides={**sizes, **overrides},
        tokenizer=WordTokenizer(kind="words", min_frequency=1),
    )
    return ModelSpec(source=source)


def test_an_export_reloads_with_equal_logits_words_and_class_names(tmp_path: Path) -> None:
    loaded = load_model(spec(), classes=("bad", "good", "odd"), texts=lambda: TEXTS)
    folder = tmp_path / "export"
    card = ModelCard("tiny", "random", "0" * 64, classes=("bad", "good", "odd"))
    export_model(None, loaded.model, loaded.tokenizer, folder, card)
    assert "AutoModelForSequenceClassification" in (folder / "README.md").read_text()
    assert "text-classification" in (folder / "README.md").read_text()
    assert verify_export(loaded.model, folder, loaded.tokenizer, prompts=TEXTS) == 0
    again = load_model(ModelSpec(source=LocalModel(kind="local", path=str(folder))), classes=("bad", "good", "odd"))
    assert again.model.config.id2label == {0: "bad", 1: "good", 2: "odd"}
    assert again.tokenizer("a cat purrs")["input_ids"] == loaded.tokenizer("a cat purrs")["input_ids"]
    assert AutoConfig.from_pretrained(folder).num_labels == 3


def test_facts_are_known_without_the_training_texts() -> None:
    facts = model_facts(spec(num_hidden_layers=3))
    assert (facts.num_layers, facts.ffn_width, facts.model_type) == (3, 24, "safr_classifier")
    assert facts.num_parameters is None


def test_the_tokenizer_of_words_needs_texts() -> None:
    with pytest.raises(ModelError, match="made of the training texts"):
        load_model(spec(), classes=("no", "yes"))


def test_words_are_split_at_white_space_with_their_case_and_rare_ones_are_unknown() -> None:
    tokenizer = word_tokenizer(WordTokenizer(kind="words"), ["The cat, the cat!", "The dog <br />", "<br /> cat,"])
    assert tokenizer.get_vocab() == {"<pad>": 0, "<unk>": 1, "/>": 2, "<br": 3, "The": 4, "cat,": 5}
    assert tokenizer("The cat, sat")["input_ids"] == [4, 5, 1]


def test_the_vocabulary_does_not_depend_on_the_order_of_texts_and_can_be_cut() -> None:
    spec_ = WordTokenizer(kind="words", min_frequency=1, max_words=3)
    first = word_tokenizer(spec_, TEXTS).get_vocab()
    assert first == word_tokenizer(spec_, TEXTS[::-1]).get_vocab()
    assert len(first) == 5


def test_texts_without_a_frequent_word_are_refused() -> None:
    with pytest.raises(ModelError, match="frequent enough"):
        word_tokenizer(WordTokenizer(kind="words", min_frequency=9), TEXTS)
