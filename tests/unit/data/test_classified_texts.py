"""A text and its class, from example to batch: the class stands at the last token, whatever is cut."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from steerline.config.data import ClassificationFormat, DatasetSpec, DataSpec, FileData
from steerline.config.model import WordTokenizer
from steerline.data.batch import IGNORED, collate
from steerline.data.dataset import build
from steerline.data.examples import Example
from steerline.data.load import digest
from steerline.data.tokens import tokenize_all
from steerline.models.byte_tokenizer import byte_tokenizer
from steerline.models.word_tokenizer import word_tokenizer


def example(text: str, label: int, name: str = "e") -> Example:
    return Example(name, text, ("bad", "good")[label], choices=("bad", "good"), label=label, target="class")


def words() -> PreTrainedTokenizerFast:
    return word_tokenizer(WordTokenizer(kind="words", min_frequency=1), ["one two three four five six"])


def bert_like() -> PreTrainedTokenizerFast:
    """Words between [CLS] and [SEP], as BERT's tokenizer puts them."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = words()
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    specials = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=specials
    )
    return tokenizer


def test_the_class_stands_at_the_last_token_and_no_token_is_added() -> None:
    tokenizer = words()
    encoded = tokenize_all([example("one two", 1), example("three", 0)], tokenizer, "answer")
    assert [text.input_ids.tolist() for text in encoded] == [
        tokenizer.convert_tokens_to_ids(["one", "two"]),
        tokenizer.convert_tokens_to_ids(["three"]),
    ]
    batch = collate([(text,) for text in encoded], 0, 1)
    assert batch.labels.tolist() == [[IGNORED, 1], [0, IGNORED]]
    assert batch.target_mask.sum(1).tolist() == [1, 1]


def test_cutting_a_text_keeps_its_class() -> None:
    (text,) = tokenize_all([example("one two three four", 1)], words(), "answer")
    cut = text.truncated(2)
    assert cut.input_ids.tolist() == text.input_ids[:2].tolist()
    assert (cut.num_targets, cut.label) == (1, 1)
    assert collate([(cut,)], 0, 1).labels.tolist() == [[IGNORED, 1]]


def test_special_tokens_around_a_text_stay_when_it_is_cut() -> None:
    tokenizer = bert_like()
    (text,) = tokenize_all([example("one two three four", 0)], tokenizer, "answer")
    assert text.num_closing == 1
    assert tokenizer.convert_ids_to_tokens(text.truncated(4).input_ids.tolist()) == ["[CLS]", "one", "two", "[SEP]"]


def test_rows_of_language_models_are_as_they_were() -> None:
    (encoded,) = tokenize_all([Example("e", "2 + 2 =", " 4")], byte_tokenizer(), "answer")
    assert encoded.label is None
    batch = collate([(encoded,)], 0, 1)
    marked = np.flatnonzero(encoded.targets)
    assert torch.equal(batch.labels[0, marked - 1], torch.from_numpy(encoded.input_ids[marked]).long())


def spec(path: str, classes: tuple[str, ...] = ("bad", "good")) -> DatasetSpec:
    return DatasetSpec(
        source=FileData(kind="file", path=path), format=ClassificationFormat(kind="classification", classes=classes)
    )


def test_a_text_without_tokens_is_left_out_and_two_labels_make_two_digests(tmp_path: Path) -> None:
    digests = []
    for label in (0, 1):
        file = tmp_path / "rows.jsonl"
        file.write_text(f'{{"text": "one two", "label": {label}}}\n{{"text": "  ", "label": 1}}\n')
        built = build([spec(str(file))], DataSpec(train=(spec(str(file)),)), words(), 0)
        assert built.report.dropped_without_targets == ("rows/1",)
        assert len(built) == 1
        digests.append(built.digest)
    assert digests[0] != digests[1]
    assert digest([example("a", 0)]) != digest([example("a", 1)])


def test_a_class_that_no_example_has_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "one", "label": 0}\n')
    with caplog.at_level(logging.WARNING):
        build([spec(str(file), ("bad", "good", "odd"))], DataSpec(train=(spec(str(file)),)), words(), 0)
    assert "no example is of class good, odd" in caplog.text
