from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from steerline.analysis.safr.deletion import RANDOM, deletion_curves, token_scores, top_tokens
from steerline.data.batch import IGNORED, Batch
from steerline.errors import EvaluationError
from steerline.models.safr_classifier import SafrClassifierConfig, SafrClassifierForSequenceClassification
from tests.tiny import tiny_model

NEUTRAL, GOOD, BAD = 1, 2, 3


def word_counter() -> PreTrainedModel:
    """A classifier that sees nothing but how many good and bad words there are."""
    model = SafrClassifierForSequenceClassification(
        SafrClassifierConfig(
            vocab_size=4, hidden_size=8, intermediate_size=8, num_attention_heads=2, vmask_hidden_size=None
        )
    ).eval()
    with torch.no_grad():
        layer = model.encoder.layers[0]
        # Without queries attention is even.
        for module in (layer.attention.q_proj, layer.attention.o_proj, layer.ffn_out, model.classifier):
            module.weight.zero_()
            module.bias.zero_()
        model.encoder.embedding.tokens.weight.zero_()
        model.encoder.embedding.tokens.weight[GOOD, 0] = 50
        model.encoder.embedding.tokens.weight[BAD, 0] = -50
        model.classifier.weight[1, 0] = 1
        model.classifier.weight[0, 0] = -1
    return model


def made_batch(rows: list[list[int]], classes: list[int]) -> Batch:
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    segments, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        segments[i, : len(row)] = 1
        labels[i, len(row) - 1] = classes[i]
    names = tuple((str(i),) for i in range(len(rows)))
    return Batch(ids, labels, torch.arange(width).repeat(len(rows), 1), segments, names)


BATCHES = [
    made_batch([[GOOD, GOOD, GOOD, NEUTRAL, NEUTRAL, NEUTRAL], [BAD, BAD, NEUTRAL, NEUTRAL]], [1, 0]),
    made_batch([[NEUTRAL, GOOD, NEUTRAL, GOOD], [BAD, NEUTRAL, BAD, NEUTRAL, BAD, NEUTRAL]], [1, 0]),
]
TELLING = [(batch.input_ids > NEUTRAL).double().numpy() for batch in BATCHES]
NEUTRALS = [(batch.input_ids == NEUTRAL).double().numpy() for batch in BATCHES]


def test_deleting_the_words_that_decide_leaves_a_guess_and_deleting_others_changes_nothing() -> None:
    curves = deletion_curves(word_counter(), BATCHES, {"telling": TELLING, "neutral": NEUTRALS}, draws=3)
    assert curves.intact.tolist() == [1, 1, 1, 1]
    assert curves.correct["telling"][-1].mean() == 0.5
    assert curves.correct["neutral"].min() == 1
    assert curves.drop_beyond_random("telling") > 0 > curves.drop_beyond_random("neutral") - 1e-9
    assert curves.correct[RANDOM].shape == (5, 4)


def test_all_tokens_deleted_is_the_same_whoever_chose_them() -> None:
    curves = deletion_curves(word_counter(), BATCHES, {"a": TELLING, "b": NEUTRALS}, shares=[1.0], draws=2)
    assert curves.correct["a"].tolist() == curves.correct["b"].tolist() == curves.correct[RANDOM].tolist()


def test_the_interval_at_each_share_holds_its_mean() -> None:
    curves = deletion_curves(word_counter(), BATCHES, {"telling": TELLING}, shares=[0.5, 0.1], draws=2)
    assert curves.shares == (0.1, 0.5)
    for interval, row in zip(curves.intervals("telling"), curves.correct["telling"], strict=True):
        assert interval.low <= interval.mean == row.mean() <= interval.high


def test_random_deletion_repeats_with_its_seed() -> None:
    one, same, *others = (
        deletion_curves(word_counter(), BATCHES, {}, shares=[0.6], draws=1, seed=seed).correct[RANDOM].tolist()
        for seed in (0, 0, 1, 2, 3, 4)
    )
    assert one == same
    assert any(one != other for other in others)


def test_the_top_share_of_each_sequence_is_chosen_ties_from_the_left_and_never_padding() -> None:
    scores = np.array([[1.0, 5.0, 2.0, 2.0, 9.0, 9.0]])
    segments = np.array([[1, 1, 1, 1, 0, 0]])
    assert top_tokens(scores, segments, 0.5).tolist() == [[False, True, True, False, False, False]]
    assert top_tokens(scores, segments, 0.01).sum() == 1
    packed = np.array([[1, 1, 1, 2, 2, 0]])
    assert top_tokens(scores, packed, 0.3).tolist() == [[False, True, False, False, True, False]]


def test_a_language_model_is_judged_by_the_next_tokens_of_its_rows() -> None:
    model = tiny_model("llama")
    batch = made_batch([[5, 6, 7, 8], [9, 10, 11, 12]], [0, 0])
    with torch.no_grad():
        said = model(input_ids=batch.input_ids).logits.argmax(-1)
    labels = said.clone()
    labels[0, :2] += 1  # wrong at half of the first row's targets
    labels[1, 0] = IGNORED
    labelled = Batch(batch.input_ids, labels, batch.position_ids, batch.segment_ids, batch.sample_ids)
    curves = deletion_curves(model, [labelled], token_scores(model, [labelled]), draws=1)
    assert curves.intact.tolist() == [0.5, 1.0]
    assert curves.correct["importance"].shape == (5, 2)


def test_scores_find_the_words_that_decide() -> None:
    scores = token_scores(word_counter(), BATCHES)
    for importance, telling, batch in zip(scores["importance"], TELLING, BATCHES, strict=True):
        assert importance.shape == tuple(batch.input_ids.shape)
        assert not importance[~batch.token_mask.numpy()].any()
        assert importance[telling > 0].min() > 0 == importance[telling == 0].max()
    # Good words of one row share a direction and attend to each other; neutral ones are zero vectors.
    for interaction, telling in zip(scores["interaction"], TELLING, strict=True):
        assert interaction[telling > 0].min() > interaction[telling == 0].max()


def test_the_model_keeps_its_mode_and_has_no_hook_left() -> None:
    model = word_counter().train()
    deletion_curves(model, BATCHES, {"telling": TELLING}, shares=[0.1], draws=1)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_bad_input_is_refused() -> None:
    model = word_counter()
    with pytest.raises(EvaluationError, match="no row has a label"):
        deletion_curves(model, [], {})
    with pytest.raises(EvaluationError, match="bad shares"):
        deletion_curves(model, BATCHES, {}, shares=[1.5])
    with pytest.raises(EvaluationError, match="do not fit the batches"):
        deletion_curves(model, BATCHES, {"a": TELLING[:1]})
