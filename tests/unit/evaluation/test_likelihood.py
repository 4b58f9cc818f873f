from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from steerline.data.examples import Example
from steerline.errors import EvaluationError
from steerline.evaluation.encoding import batches, common_prefix, encode_options, flat_rows, tree_row
from steerline.evaluation.likelihood import branch_mask, score_options
from steerline.evaluation.model_facts import evaluating, supports_branches
from tests.tiny import DECODER_FAMILIES, tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
WORDS = Example("words", "Is water wet?\n", "the correct answer is true", ("true", "false"), 0)
NUMBERED = Example("numbered", "Which one?\n", "solution2", ("solution1", "solution2"), 1)
LONG = Example("long", "The cat\n", "sat on the mat", ("sat on the mat", "sat on a very old hat", "flew"), 0)
NESTED = Example("nested", "Where?\n", "New York City", ("New York", "New York City"), 1)
EXAMPLES = [WORDS, NUMBERED, LONG, NESTED]


def by_full_forward(model: torch.nn.Module, example: Example) -> list[float]:
    """Each option alone through the model, full logits, no padding."""
    result = []
    for option in encode_options([example], TOKENIZER)[0]:
        logits = model(torch.from_numpy(option.ids)[None]).logits[0].float().log_softmax(-1)
        places = np.flatnonzero(option.scored)
        result.append(float(sum(logits[i - 1, option.ids[i]] for i in places)))
    return result


@pytest.mark.parametrize("family", DECODER_FAMILIES)
@pytest.mark.parametrize("share_prompt", [True, False])
def test_scores_equal_the_plain_forward_of_each_option(family: str, share_prompt: bool) -> None:
    model = tiny_model(family)
    ours = score_options(model, TOKENIZER, EXAMPLES, share_prompt=share_prompt)
    with torch.no_grad():
        for scores, example in zip(ours, EXAMPLES, strict=True):
            assert scores == pytest.approx(by_full_forward(model, example), abs=2e-4)


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_every_listed_family_takes_branches(family: str) -> None:
    assert supports_branches(tiny_model(family), 100)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_both_attention_kernels_take_branches(attention: str) -> None:
    model = tiny_model("llama", attention=attention)
    with torch.no_grad():
        assert score_options(model, TOKENIZER, [LONG])[0] == pytest.approx(by_full_forward(model, LONG), abs=2e-4)


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_rows_longer_than_a_sliding_window_are_scored_apart(family: str) -> None:
    model = tiny_model(family, sliding_window=8)
    assert not supports_branches(model, 9)
    with torch.no_grad():
        for scores, example in zip(score_options(model, TOKENIZER, EXAMPLES), EXAMPLES, strict=True):
            assert scores == pytest.approx(by_full_forward(model, example), abs=2e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_half_precision_logits_are_made_in_float32(family: str) -> None:
    # The reference: the same bf16 body, its head (and Gemma 2's soft cap) in float32.
    model = tiny_model(family, dtype=torch.bfloat16)
    seen: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    ids = encode_options([NUMBERED], TOKENIZER)[0][0].ids
    with torch.no_grad():
        model(torch.from_numpy(ids[None, :-1]))
    handle.remove()
    logits = seen[0][0].float() @ head.weight.detach().float().T
    cap = model.config.to_dict().get("final_logit_softcapping")
    if cap:
        logits = torch.tanh(logits / cap) * cap
    expected = sum(float(logits[i].log_softmax(-1)[ids[i + 1]]) for i in range(len(ids) - 10, len(ids) - 1))
    scores = score_options(model, TOKENIZER, [replace(NUMBERED, answer="solution1", label=0)])[0]
    assert scores[0] == pytest.approx(expected, abs=1e-3)


def test_batch_size_does_not_change_scores() -> None:
    model = tiny_model("llama")
    items = [replace(LONG, id=str(i), prompt="x" * i + "\n") for i in range(20)]
    one_by_one = score_options(model, TOKENIZER, items, batch_tokens=128)
    together = score_options(model, TOKENIZER, items, batch_tokens=100_000)
    for a, b in zip(one_by_one, together, strict=True):
        assert a == pytest.approx(b, abs=2e-4)


def test_normalisation_divides_by_answer_tokens_or_bytes() -> None:
    model = tiny_model("llama")
    plain, tokens, size = (score_options(model, TOKENIZER, [LONG], normalise=n)[0] for n in ("none", "tokens", "bytes"))
    lengths = [len(choice) for choice in LONG.choices]  # the tiny tokenizer has one token for each byte
    assert tokens == pytest.approx([p / n for p, n in zip(plain, lengths, strict=True)])
    assert size == pytest.approx(tokens)
    umlaut = Example("u", "q\n", "ü", ("ü", "u"), 0)
    lead = Example("l", "q\n", "it is ü", ("ü", "u"), 0)
    by_bytes = score_options(model, TOKENIZER, [umlaut], normalise="bytes")[0]
    assert by_bytes[0] == pytest.approx(score_options(model, TOKENIZER, [umlaut])[0][0] / 2)
    # Tokens count the whole answer; bytes count the option's own text.
    assert score_options(model, TOKENIZER, [lead], normalise="bytes")[0][1] == pytest.approx(
        score_options(model, TOKENIZER, [lead])[0][1]
    )


def test_the_end_of_text_token_is_not_scored() -> None:
    option = encode_options([WORDS], TOKENIZER)[0][0]
    assert TOKENIZER.decode(option.ids[option.scored]) == "the correct answer is true"


def test_options_that_differ_in_their_last_token_need_no_branch() -> None:
    row = tree_row(0, encode_options([NUMBERED], TOKENIZER)[0])
    assert not row.branch.any()
    assert len(row) == len("Which one?\nsolution") + len(TOKENIZER("").input_ids)


def test_rows_hold_no_token_twice_and_no_last_token() -> None:
    options = encode_options([LONG], TOKENIZER)[0]
    row = tree_row(0, options)
    trunk = common_prefix([option.ids for option in options])
    assert len(row) == trunk + sum(len(option.ids) - trunk - 1 for option in options)
    assert sum(map(len, flat_rows(0, options))) > len(row)


def test_branch_mask_hides_siblings_and_padding() -> None:
    branch = torch.tensor([[0, 0, 1, 2, 2, 0]])
    valid = torch.tensor([[True] * 5 + [False]])
    seen = (branch_mask(branch, valid, torch.float32)[0, 0] == 0).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_batches_keep_to_both_limits_and_hold_every_row() -> None:
    rows = [row for i, e in enumerate(EXAMPLES * 5) for row in flat_rows(i, encode_options([e], TOKENIZER)[0])]
    parts = batches(rows, max_tokens=150, max_reads=40)
    assert sorted(id(row) for part in parts for row in part) == sorted(map(id, rows))
    for part in parts:
        assert len(part) == 1 or len(part) * max(map(len, part)) <= 150
        assert len(part) == 1 or sum(len(row.reads) for row in part) <= 40
    assert max(map(len, parts)) > 1


def test_a_readings_limit_below_one_item_does_not_change_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    expected = score_options(model, TOKENIZER, EXAMPLES)
    monkeypatch.setattr("steerline.evaluation.likelihood.MAX_READS", 1)
    for a, b in zip(score_options(model, TOKENIZER, EXAMPLES), expected, strict=True):
        assert a == pytest.approx(b, abs=2e-4)


def test_the_head_sees_only_positions_that_are_read() -> None:
    model = tiny_model("llama")
    widths: list[int] = []
    handle = model.get_output_embeddings().register_forward_hook(lambda _m, _a, out: widths.append(out.shape[1]))
    score_options(model, TOKENIZER, [NUMBERED])
    handle.remove()
    assert widths == [len("solution1")]


def test_the_models_hooks_and_modes_are_as_before_even_after_an_error() -> None:
    model = tiny_model("llama")
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    handle = model.model.norm.register_forward_hook(_boom)
    with pytest.raises(RuntimeError, match="boom"), evaluating(model):
        score_options(model, TOKENIZER, [WORDS])
    handle.remove()
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())


def _boom(*_: object) -> None:
    raise RuntimeError("boom")


def test_progress_counts_finished_items() -> None:
    seen: list[int] = []
    score_options(
        tiny_model("llama"), TOKENIZER, EXAMPLES, batch_tokens=128, share_prompt=False, on_progress=seen.append
    )
    assert seen == sorted(seen)
    assert seen[-1] == len(EXAMPLES)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (Example("a", "q", "x"), "needs a prompt, choices"),
        (Example("a", "q", "x", ("x", "y"), None), "needs a prompt, choices"),
        (Example("a", "q", "x", ("x", " "), 0), "no text to score"),
        (Example("a", "q" * 600, "x", ("x", "y"), 0), "longer than the model's context"),
    ],
)
def test_items_that_cannot_be_scored_are_named(example: Example, message: str) -> None:
    with pytest.raises(EvaluationError, match=message) as caught:
        score_options(tiny_model("llama"), TOKENIZER, [example])
    assert "item a" in str(caught.value)
    assert caught.value.fix


def test_nan_weights_and_encoders_are_refused() -> None:
    model = tiny_model("llama")
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(EvaluationError, match="not finite"):
        score_options(model, TOKENIZER, [WORDS])
    with pytest.raises(EvaluationError, match="causal language model"):
        score_options(tiny_model("bert"), TOKENIZER, [WORDS])
