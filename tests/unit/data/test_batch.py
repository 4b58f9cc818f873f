"""Batches hold each example's tokens, positions and shifted labels, and say to a model only what it needs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steerline.data.batch import IGNORED, Row, collate
from steerline.data.tokens import TokenizedExample
from steerline.errors import DataError
from tests.tiny import tiny_config


def example(id_: str, tokens: list[int], targets: list[int]) -> TokenizedExample:
    """`targets` are 0 or 1 for each token."""
    return TokenizedExample(id_, np.array(tokens, dtype=np.int32), np.array(targets, dtype=np.bool_))


A = example("a", [5, 6, 7, 8], [0, 0, 1, 1])
B = example("b", [9, 10], [0, 1])
C = example("c", [11], [0])


def test_a_row_by_hand() -> None:
    batch = collate([(A, B), (C,)], pad_id=3, pad_to_multiple_of=4)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 3, 3], [11, 3, 3, 3, 3, 3, 3, 3]]
    x = IGNORED
    assert batch.labels.tolist() == [[x, 7, 8, x, 10, x, x, x], [x] * 8]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 0, 1], [0, 0, 1, 2, 3, 4, 5, 6]]
    assert batch.segment_ids.tolist() == [[1, 1, 1, 1, 2, 2, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert batch.sample_ids == (("a", "b"), ("c",))
    assert batch.num_targets == 3
    assert batch.token_mask.sum() == 7
    assert batch.is_packed


examples = st.integers(1, 9).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n))
rows_of_flags = st.lists(st.lists(examples, min_size=1, max_size=4), min_size=1, max_size=4)


@given(rows_of_flags, st.sampled_from([1, 4, 8]))
def test_no_label_leaves_its_example_and_none_is_lost(flags: list[list[list[bool]]], multiple: int) -> None:
    rows: list[Row] = []
    token = 10
    for row in flags:
        made = []
        for marks in row:
            made.append(example("e", list(range(token, token + len(marks))), [0, *map(int, marks[1:])]))
            token += len(marks)
        rows.append(tuple(made))
    batch = collate(rows, 0, multiple)
    assert batch.input_ids.shape[1] % multiple == 0
    assert batch.num_targets == sum(made.num_targets for row in rows for made in row)
    # Tokens count up through the whole batch, so a right label is its own token plus one, in the same segment.
    marked = batch.target_mask
    assert torch.equal(batch.labels[marked], batch.input_ids[marked] + 1)
    following = batch.segment_ids.roll(-1, dims=1)
    assert torch.equal(batch.segment_ids[marked], following[marked])
    assert (batch.labels[~batch.token_mask] == IGNORED).all()


def test_a_worker_without_work_gets_a_row_of_padding() -> None:
    batch = collate([], pad_id=3)
    assert batch.input_ids.tolist() == [[3] * 8]
    assert batch.num_targets == 0
    assert not batch.token_mask.any()
    # A row that attends to nothing would be all NaN.
    assert "attention_mask" not in batch.model_inputs(tiny_config("llama"))


def test_full_rows_need_no_mask_and_padded_rows_a_plain_one() -> None:
    config = tiny_config("llama")
    full = collate([(A,), (A,)], 0, 4).model_inputs(config)
    assert set(full) == {"input_ids", "use_cache"}
    padded = collate([(A,), (B,)], 0, 4).model_inputs(config)
    assert padded["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert "position_ids" not in padded


def test_packed_rows_say_where_each_example_starts_and_switch_the_cache_off() -> None:
    batch = collate([(A, B)], 0)
    config = tiny_config("llama")
    config._attn_implementation = "sdpa"
    inputs = batch.model_inputs(config)
    assert inputs["position_ids"] is batch.position_ids
    assert inputs["use_cache"] is False
    assert "attention_mask" not in inputs


@pytest.mark.parametrize(
    ("family", "kernel"), [("bert", "sdpa"), ("roberta", "sdpa"), ("distilbert", "eager"), ("llama", "flex_attention")]
)
def test_models_that_would_mix_examples_are_refused(family: str, kernel: str) -> None:
    config = tiny_config(family)
    config._attn_implementation = kernel
    with pytest.raises(DataError, match="packed rows") as caught:
        collate([(A, B)], 0).model_inputs(config)
    assert "data.packing: false" in str(caught.value.fix)
    assert collate([(A,), (B,)], 0).model_inputs(config)


def test_flash_attention_tells_examples_apart_in_one_row_only() -> None:
    config = tiny_config("llama")
    config._attn_implementation = "flash_attention_2"
    assert "position_ids" in collate([(A, B)], 0).model_inputs(config)
    with pytest.raises(DataError, match="packed rows"):
        collate([(A, B), (C,)], 0).model_inputs(config)


def test_a_batch_moves_as_a_whole() -> None:
    moved = collate([(A, B)], 0).to("meta")
    assert {moved.input_ids.device.type, moved.labels.device.type, moved.segment_ids.device.type} == {"meta"}
    assert moved.sample_ids == (("a", "b"),)
