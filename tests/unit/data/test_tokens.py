"""The answer's tokens are those that follow the prompt in generation, and only they carry the loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from steerline.data.examples import Example
from steerline.data.tokens import beginning_of_text, padding, tokenize, tokenize_all
from steerline.errors import DataError
from tests.tiny import tiny_tokenizer
from tests.unit.data.tokenizers import merging_tokenizer, sentencepiece_tokenizer

TOKENIZERS = {"bytes": tiny_tokenizer(), "merging": merging_tokenizer(), "sentencepiece": sentencepiece_tokenizer()}
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
words = st.text(alphabet="xyz \n", max_size=8)


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@every_tokenizer
@given(prompt=words, answer=words)
def test_the_prompts_tokens_are_those_that_generation_starts_from(
    tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str
) -> None:
    try:
        encoded = tokenize(Example("x", prompt, answer), tokenizer, "answer")
    except DataError:
        return
    bos = beginning_of_text(tokenizer)
    start = bos + (_ids(tokenizer, prompt) if prompt else [])
    assert encoded.input_ids[: len(start)].tolist() == start
    assert not encoded.targets[: len(start)].any()
    assert encoded.targets[max(1, len(start)) :].all()
    assert encoded.input_ids[-1] == tokenizer.eos_token_id
    text = tokenizer.decode(encoded.input_ids[len(bos) : -1])
    assert text == tokenizer.decode(_ids(tokenizer, prompt + answer))


@every_tokenizer
@given(prompt=st.text(alphabet="xyz ", max_size=6), answer=st.text(alphabet="xyz ", max_size=6))
def test_a_prompt_that_ends_in_a_line_break_never_needs_a_way_out(
    tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str
) -> None:
    encoded = tokenize(Example("x", prompt + "\n", answer), tokenizer, "answer")
    bos = beginning_of_text(tokenizer)
    assert encoded.input_ids.tolist() == [*bos, *_ids(tokenizer, f"{prompt}\n{answer}"), tokenizer.eos_token_id]


@pytest.mark.parametrize("name", ["merging", "sentencepiece"])
def test_no_merge_crosses_the_border(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    space = {"merging": "Ġ", "sentencepiece": "▁"}[name]
    assert tokenizer.convert_tokens_to_ids(f"{space}y") in _ids(tokenizer, "is yes")
    encoded = tokenize(Example("x", "is ", "yes"), tokenizer, "answer")
    tokens = tokenizer.convert_ids_to_tokens(encoded.input_ids)
    assert tokens[-5:] == [space, "y", "e", "s", "</s>"]
    assert encoded.targets[-4:].all()
    assert not encoded.targets[:-4].any()


def test_a_pair_that_cannot_be_split_is_named_with_a_way_out() -> None:
    # Decoding that drops every lone space cannot tell "is yes" from "isyes" unless the two are one token.
    tokenizer = merging_tokenizer()
    tokenizer.backend_tokenizer.decoder = decoders.Sequence([decoders.Replace("Ġy", "_"), decoders.Fuse()])
    with pytest.raises(DataError, match="tokenised apart") as caught:
        tokenize(Example("row/7", "is ", "yes"), tokenizer, "answer")
    assert caught.value.where == "example row/7"
    assert "line break" in str(caught.value.fix)


@every_tokenizer
def test_the_loss_may_fall_on_every_token_but_the_first(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = tokenize(Example("x", "xx ", "zz"), tokenizer, "all")
    assert not encoded.targets[0]
    assert encoded.targets[1:].all()


def test_a_beginning_of_text_token_stands_where_the_tokenizer_puts_one() -> None:
    assert beginning_of_text(TOKENIZERS["bytes"]) == []
    assert beginning_of_text(TOKENIZERS["sentencepiece"]) == [1]
    assert tokenize(Example("x", "", "zz"), TOKENIZERS["sentencepiece"], "answer").input_ids[0] == 1


def test_text_without_a_prompt_carries_the_loss_from_its_second_token() -> None:
    encoded = tokenize(Example("x", "", "abc"), TOKENIZERS["bytes"], "answer")
    assert encoded.targets.tolist() == [False, True, True, True]


def test_an_empty_answer_is_learned_as_stopping() -> None:
    encoded = tokenize(Example("x", "why?\n", ""), TOKENIZERS["bytes"], "answer")
    assert encoded.num_targets == 1
    assert encoded.input_ids[encoded.targets].tolist() == [TOKENIZERS["bytes"].eos_token_id]


def test_many_at_once_are_as_one_by_one() -> None:
    chat = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"})
    examples = [Example("a", "p\n", "q"), Example("b", "", "", messages=chat), Example("c", "r ", "yes")]
    together = tokenize_all(examples, TOKENIZERS["bytes"], "answer")
    for example, encoded in zip(examples, together, strict=True):
        alone = tokenize(example, TOKENIZERS["bytes"], "answer")
        assert encoded.id == alone.id == example.id
        assert np.array_equal(encoded.input_ids, alone.input_ids)
        assert np.array_equal(encoded.targets, alone.targets)


def test_a_tokenizer_that_cannot_stop_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="end-of-text"):
        tokenize(Example("x", "a", "b"), tokenizer, "answer")


def test_padding_falls_back_to_the_end_of_text() -> None:
    tokenizer = tiny_tokenizer()
    assert padding(tokenizer) == tokenizer.pad_token_id
    tokenizer.pad_token = None
    assert padding(tokenizer) == tokenizer.eos_token_id
