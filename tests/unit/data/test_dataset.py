"""Rows hold the examples they report, cut as the config says, with a digest that any change changes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from steerline.config.data import DataSpec
from steerline.data import dataset as dataset_module
from steerline.data.dataset import TokenDataset, build
from steerline.errors import DataError
from tests.tiny import tiny_tokenizer

# One token a byte: prompt of 5, answer of 1 to 20, end of text.
PROMPT = "ask:\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "set.jsonl"
    file.write_text("".join(json.dumps({"answer": "x" * n}) + "\n" for n in range(1, 21)))
    return file


def _build(path: Path, seed: int = 0, **fields: Any) -> TokenDataset:
    dataset = {
        "source": {"kind": "file", "path": str(path)},
        "format": {"kind": "prompt_answer", "prompt": PROMPT, "answer": "{answer}"},
    }
    data = DataSpec.model_validate({"train": [dataset], "max_length_tokens": 32, **fields})
    return build(data.train, data, tiny_tokenizer(), seed)


def test_without_packing_every_example_is_a_row_in_order(path: Path) -> None:
    data = _build(path)
    assert [row[0].id for row in data.rows] == [f"set/{n}" for n in range(20)]
    assert data.lengths == tuple(5 + n + 1 for n in range(1, 21))
    assert len(data) == 20
    assert [data.num_targets(n) for n in range(20)] == [n + 1 for n in range(1, 21)]
    assert data.report.targets == sum(n + 1 for n in range(1, 21))
    assert data.report.kept == data.report.examples == 20


def test_with_packing_every_example_is_in_one_row_and_rows_are_short_enough(path: Path) -> None:
    data = _build(path, packing=True)
    ids = [example.id for row in data.rows for example in row]
    assert sorted(ids) == sorted(f"set/{n}" for n in range(20))
    assert max(data.lengths) <= 32
    assert len(data) < 20
    assert data.report.efficiency == pytest.approx(sum(data.lengths) / (32 * len(data)))
    assert data.report.efficiency > 0.85


def test_the_seed_decides_which_examples_of_equal_length_meet(tmp_path: Path) -> None:
    file = tmp_path / "equal.jsonl"
    file.write_text("".join(json.dumps({"answer": f"{n:02d}"}) + "\n" for n in range(40)))
    assert _build(file, packing=True).digest == _build(file, packing=True).digest
    assert _build(file, packing=True).digest != _build(file, seed=1, packing=True).digest


def test_an_overlong_example_is_an_error_that_names_the_longest(path: Path) -> None:
    with pytest.raises(DataError, match="2 of 20 examples") as caught:
        _build(path, max_length_tokens=24)
    assert str(caught.value.got).startswith("set/19: 26 tokens, set/18: 25 tokens")


def test_overlong_examples_are_dropped_on_request(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = _build(path, max_length_tokens=24, overlong="drop")
    assert data.report.dropped_overlong == ("set/18", "set/19")
    assert len(data) == 18
    assert "2 examples were left out as too long: set/18, set/19" in caplog.text


def test_overlong_examples_lose_their_end_on_request(path: Path) -> None:
    data = _build(path, max_length_tokens=24, overlong="truncate")
    assert data.report.truncated == ("set/18", "set/19")
    assert max(data.lengths) == 24
    assert len(data) == 20
    assert data.num_targets(19) == 24 - 5


def test_an_example_whose_answer_is_cut_away_is_left_out_and_reported(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text('{"question": "short", "answer": "a"}\n{"question": "a very long question", "answer": "b"}\n')
    dataset = {
        "source": {"kind": "file", "path": str(file)},
        "format": {"kind": "prompt_answer", "prompt": "{question}\n", "answer": "{answer}"},
    }
    data = DataSpec.model_validate({"train": [dataset], "max_length_tokens": 12, "overlong": "truncate"})
    built = build(data.train, data, tiny_tokenizer(), 0)
    assert built.report.dropped_without_targets == ("set/1",)
    assert built.report.truncated == ()
    assert [row[0].id for row in built.rows] == ["set/0"]


def test_nothing_left_is_an_error(path: Path) -> None:
    with pytest.raises(DataError, match="no example is left"):
        _build(path, max_length_tokens=4, overlong="drop")


def test_the_digest_sees_tokens_targets_and_rows(path: Path) -> None:
    base = _build(path).digest
    assert base == _build(path, seed=5).digest
    assert base != _build(path, loss_on="all").digest
    assert base != _build(path, packing=True).digest
    path.write_text(path.read_text().replace('"x"', '"y"'))
    assert base != _build(path).digest


def test_held_out_sets_are_built_the_same_way(path: Path) -> None:
    dataset = {
        "source": {"kind": "file", "path": str(path)},
        "format": {"kind": "prompt_answer", "prompt": PROMPT, "answer": "{answer}"},
    }
    data = DataSpec.model_validate({"train": [dataset], "heldout": [dataset], "max_length_tokens": 32})
    assert build(data.heldout, data, tiny_tokenizer(), 0).digest == _build(path).digest


def test_long_tokenisation_says_how_far_it_is(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "_CHUNK", 5)
    monkeypatch.setattr(dataset_module, "_PROGRESS_EVERY_SECONDS", -1.0)
    with caplog.at_level(logging.INFO):
        _build(path)
    assert "tokenised 10 of 20 examples" in caplog.text
