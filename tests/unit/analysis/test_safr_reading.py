from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from steerline.analysis.safr.measures import interference_attention_correlation
from steerline.analysis.safr.reading import TokenReading, read_tokens
from steerline.analysis.safr.summary import MEASURES, summarise
from steerline.data.batch import Batch, collate
from steerline.data.examples import Example
from steerline.data.tokens import TokenizedExample, tokenize_all
from steerline.errors import EvaluationError
from steerline.models.anatomy import anatomy
from steerline.models.safr_classifier import SafrClassifierConfig, SafrClassifierForSequenceClassification
from tests.tiny import DECODER_FAMILIES, TINY_FAMILIES, TINY_VOCAB, tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
STEP = 1e-5
TEXTS = ("one", "a longer text", "the longest text of them all")


def rows(*texts: str) -> list[TokenizedExample]:
    return tokenize_all([Example(str(i), text, "yes") for i, text in enumerate(texts)], TOKENIZER, "all")


def batch(*texts: str) -> Batch:
    return collate([(row,) for row in rows(*texts)], pad_id=0)


def classifier(layers: int = 1, **config: object) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": TINY_VOCAB, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4}
    return SafrClassifierForSequenceClassification(
        SafrClassifierConfig(**{**sizes, "num_hidden_layers": layers, "vmask_hidden_size": 8, **config})
    ).eval()


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_a_reading_is_what_the_model_says_of_each_text_alone(family: str) -> None:
    model = tiny_model(family)
    eager = tiny_model(family, attention="eager")
    sites = anatomy(model)
    for reading, row in zip(read_tokens(model, [batch(*TEXTS)]), rows(*TEXTS), strict=True):
        ids = torch.from_numpy(row.input_ids).long()[None]
        with torch.no_grad():
            expected = eager.base_model(input_ids=ids, output_attentions=True, output_hidden_states=True)
        assert reading.input_ids.tolist() == row.input_ids.tolist()
        for layer in range(sites.num_layers):
            assert reading.attention[layer] == pytest.approx(expected.attentions[layer][0].mean(0).numpy(), abs=2e-5)
            assert reading.keys[layer].shape == (len(row), sites.ffn_keys[layer].width)
        # The last hidden state is behind a final norm; the one before it is the first block's output.
        assert reading.blocks[0] == pytest.approx(expected.hidden_states[1][0].numpy(), abs=1e-4)
        assert reading.causal == (family in DECODER_FAMILIES)


def test_packed_rows_give_the_readings_of_their_examples_alone() -> None:
    model = tiny_model("llama")
    packed = list(read_tokens(model, [collate([tuple(rows(*TEXTS))], pad_id=0)]))
    for one, other in zip(packed, read_tokens(model, [batch(*TEXTS)]), strict=True):
        assert one.id == other.id
        assert one.embed == pytest.approx(other.embed, abs=1e-6)
        assert one.attention[1] == pytest.approx(other.attention[1], abs=1e-5)
        assert one.keys[1] == pytest.approx(other.keys[1], abs=1e-4)
        assert one.importance == pytest.approx(other.importance, rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("model", [tiny_model("gpt2"), tiny_model("opt"), classifier(vmask_hidden_size=None)])
def test_importance_is_the_gradient_times_the_input_of_the_summed_loss(model: PreTrainedModel) -> None:
    model = model.double()
    labelled = batch("some text")
    if isinstance(model, SafrClassifierForSequenceClassification):
        labelled = as_rows_of_a_class(labelled)
    (reading,) = read_tokens(model, [labelled])
    assert reading.importance_from == "gradient_x_input"
    site = anatomy(model).embed.module

    def loss(scale: float, token: int) -> float:
        def change(_module: torch.nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
            factor = torch.ones(output.shape[1], dtype=output.dtype)
            factor[token] = scale
            return output * factor[None, :, None]

        handle = site.register_forward_hook(change)
        with torch.no_grad():
            logits = model(**labelled.model_inputs(model.config)).logits
        handle.remove()
        if logits.ndim == 2:
            return float(torch.nn.functional.cross_entropy(logits, labelled.labels.max(-1).values, reduction="sum"))
        chosen = labelled.target_mask
        return float(torch.nn.functional.cross_entropy(logits[chosen], labelled.labels[chosen], reduction="sum"))

    for token in range(len(reading)):
        derivative = (loss(1 + STEP, token) - loss(1 - STEP, token)) / (2 * STEP)
        assert reading.importance[token] == pytest.approx(abs(derivative), rel=1e-3, abs=1e-6)


def as_rows_of_a_class(made: Batch) -> Batch:
    """The same rows, each with class 1 at its last token and no other label."""
    labels = torch.full_like(made.labels, -100)
    labels[torch.arange(len(labels)), made.token_mask.sum(-1) - 1] = 1
    return Batch(made.input_ids, labels, made.position_ids, made.segment_ids, made.sample_ids)


def test_a_models_own_gate_gives_the_importance() -> None:
    model = classifier()
    made = as_rows_of_a_class(batch(*TEXTS))
    embedding = model.encoder.embedding
    for row, reading in enumerate(read_tokens(model, [made])):
        with torch.no_grad():
            plain = embedding.tokens(made.input_ids[row]) * embedding.scale
            gate = embedding.gate.log_probabilities(plain).exp()[: len(reading), 1]
        assert reading.importance_from == "vmask"
        assert reading.importance == pytest.approx(gate.numpy(), rel=1e-5)
        assert reading.embed == pytest.approx((plain[: len(reading)] * gate[:, None]).numpy(), rel=1e-4, abs=1e-5)


def test_reading_leaves_the_model_as_it_was() -> None:
    model = tiny_model("llama").train()
    model.model.layers[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    list(read_tokens(model, [batch(*TEXTS)]))
    readings = read_tokens(model, [batch(*TEXTS)])
    next(readings)  # an abandoned reading leaves nothing behind either
    with pytest.raises(EvaluationError, match="no such layer"):
        list(read_tokens(model, [batch("x")], layers=[7]))
    assert {name: module.training for name, module in model.named_modules()} == before
    assert model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def ids(readings: list[TokenReading]) -> list[str]:
    return [reading.id for reading in readings]


def test_a_limit_draws_the_same_sequences_of_two_models_and_other_ones_with_another_seed() -> None:
    batches = [batch(*(f"text {i}" for i in range(start, start + 4))) for start in (0, 4, 8)]
    one, two = (list(read_tokens(tiny_model(family), batches, limit=5, seed=3)) for family in ("llama", "opt"))
    assert ids(one) == ids(two)
    assert [r.batch for r in one] == [r.batch for r in two]
    assert len(one) == 5
    seeds = {
        tuple((r.batch, r.row) for r in read_tokens(tiny_model("llama"), batches, limit=5, seed=s)) for s in (0, 1)
    }
    assert len(seeds) == 2


def test_long_sequences_are_thinned_to_so_many_tokens_of_the_whole() -> None:
    model = tiny_model("llama")
    (whole,) = read_tokens(model, [batch(TEXTS[2])], max_tokens=None)
    (thin,) = read_tokens(model, [batch(TEXTS[2])], max_tokens=6, seed=1)
    assert len(thin) == 6
    assert (np.diff(thin.positions) > 0).all()
    assert thin.embed == pytest.approx(whole.embed[thin.positions])
    assert thin.attention[0] == pytest.approx(whole.attention[0][np.ix_(thin.positions, thin.positions)])
    assert thin.importance == pytest.approx(whole.importance[thin.positions])


def test_a_model_that_hides_its_attention_probabilities_is_refused() -> None:
    model = tiny_model("llama")
    inner = model.model.layers[1].self_attn
    inner.register_forward_hook(lambda _module, _args, output: (output[0], None))
    with pytest.raises(EvaluationError, match="gives no attention probabilities"):
        list(read_tokens(model, [batch("x y")], layers=[1]))
    assert list(read_tokens(model, [batch("x y")], layers=[0]))


def test_no_tokens_are_refused() -> None:
    with pytest.raises(EvaluationError, match="no sequence"):
        list(read_tokens(tiny_model("llama"), []))
    with pytest.raises(EvaluationError, match="no sequence"):
        summarise([])


def test_a_summary_has_every_measure_and_leaves_out_where_it_is_not_defined() -> None:
    model = classifier(layers=2)
    summary = summarise(read_tokens(model, [as_rows_of_a_class(batch(*TEXTS))]))
    assert set(summary.values) == set(MEASURES)
    assert summary.num_sequences == 3
    assert all(summary.interval(name) is not None for name in MEASURES)
    (alone,) = rows("x")
    single = collate([(TokenizedExample("0", alone.input_ids[:1], alone.targets[:1]),)], pad_id=0)
    lonely = summarise(read_tokens(model, [single]))
    assert lonely.mean("interference") == 0
    assert lonely.mean("capacity_ffn") == pytest.approx(1)
    assert lonely.mean("interference_gap") is None
    assert lonely.mean("interference_attention_correlation") is None


def test_centring_changes_what_is_measured() -> None:
    readings = list(read_tokens(tiny_model("llama"), [batch(*TEXTS)]))
    assert summarise(readings).mean("capacity_block") != summarise(readings, center=True).mean("capacity_block")


@pytest.mark.parametrize(("family", "causal"), [("llama", True), ("bert", False)])
def test_a_causal_models_correlation_is_over_pairs_that_can_attend(family: str, causal: bool) -> None:
    readings = list(read_tokens(tiny_model(family), [batch(*TEXTS)], layers=[1]))
    expected = [interference_attention_correlation(r.embed, r.attention[1], causal=causal) for r in readings]
    assert summarise(readings).mean("interference_attention_correlation") == pytest.approx(np.mean(expected))
