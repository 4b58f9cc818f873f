"""Sentiment data as their authors published them, on small copies of the same shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import datasets
import pytest

from steerline.config.data import ClassificationFormat, DatasetSpec, FileData, HubData, ReviewFolderData, TreebankData
from steerline.data.load import load_examples
from steerline.data.sentiment import review_part
from steerline.data.sources import read_rows
from steerline.errors import DataError

Split = Literal["train", "dev", "test"]
# Sentence, part (1 train, 2 test, 3 dev), score; none where the dictionary spells it otherwise.
TREEBANK: list[tuple[str, int, float | None]] = [
    ("A fine film .", 1, 0.9),
    ("Not so fine .", 1, 0.2),
    ("Neither here nor there .", 1, 0.5),
    ("A joy | a delight .", 1, 0.61),
    ("Good -LRB- mostly -RRB- .", 1, None),
    ("Great .", 1, 1.0),
    ("Weak .", 1, 0.4),
    ("Border .", 1, 0.6),
    ("Best of all .", 2, 0.8),
    ("Worst of all .", 2, 0.0),
    ("Also the best .", 2, 0.7),
    ("Fair .", 3, 0.75),
]


def treebank(folder: Path) -> Path:
    numbered = list(enumerate(TREEBANK, start=1))
    known = [(n, text, score) for n, (text, _, score) in numbered if score is not None]
    files = {
        "datasetSentences.txt": ["sentence_index\tsentence", *(f"{n}\t{text}" for n, (text, _, _) in numbered)],
        "datasetSplit.txt": ["sentence_index,splitset_label", *(f"{n},{part}" for n, (_, part, _) in numbered)],
        "dictionary.txt": ["!|0", *(f"{text}|{100 + n}" for n, text, _ in known)],
        "sentiment_labels.txt": ["phrase ids|sentiment values", "0|0.5", *(f"{100 + n}|{s}" for n, _, s in known)],
    }
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def sst2(folder: Path, split: Split) -> list[tuple[str, int]]:
    rows = read_rows(TreebankData(kind="treebank", path=str(folder), split=split))
    return [(row["text"], row["label"]) for row in rows.rows]


def test_sentences_get_their_class_from_the_dictionarys_score_and_train_is_balanced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = treebank(tmp_path)
    assert sst2(folder, "train") == [
        ("A fine film .", 1),
        ("Not so fine .", 0),
        ("A joy | a delight .", 1),
        ("Weak .", 0),
    ]
    assert "1 sentences" in caplog.text


def test_test_and_dev_are_left_as_they_are(tmp_path: Path) -> None:
    folder = treebank(tmp_path)
    assert sst2(folder, "test") == [("Best of all .", 1), ("Worst of all .", 0), ("Also the best .", 1)]
    assert sst2(folder, "dev") == [("Fair .", 1)]


def test_a_missing_file_of_the_treebank_is_named(tmp_path: Path) -> None:
    (treebank(tmp_path) / "dictionary.txt").unlink()
    with pytest.raises(DataError, match="missing") as caught:
        sst2(tmp_path, "train")
    assert "dictionary.txt" in str(caught.value)


def test_a_line_of_another_form_is_named(tmp_path: Path) -> None:
    (treebank(tmp_path) / "datasetSplit.txt").write_text("sentence_index,splitset_label\n1 1\n")
    with pytest.raises(DataError, match="form") as caught:
        sst2(tmp_path, "train")
    assert "datasetSplit.txt:2" in str(caught.value)


def test_a_score_that_is_no_number_is_named(tmp_path: Path) -> None:
    file = treebank(tmp_path) / "sentiment_labels.txt"
    file.write_text(file.read_text().replace("101|0.9", "101|high"))
    with pytest.raises(DataError, match="not a number"):
        sst2(tmp_path, "train")


def test_a_folder_that_is_not_the_treebank_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").touch()
    with pytest.raises(DataError, match=r"datasetSentences\.txt"):
        sst2(tmp_path, "train")


def reviews(folder: Path) -> Path:
    for part, count in (("train", 5), ("test", 2)):
        for name in ("pos", "neg"):
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(count):
                (place / f"{number}_7.txt").write_text(f"{part} {name} {number} <br /> é", encoding="utf-8")
    (folder / "train" / "unsup").mkdir()
    return folder


def imdb(folder: Path, split: Split, each: int = 3) -> list[tuple[str, int]]:
    source = ReviewFolderData(kind="review_folder", path=str(folder), split=split, train_per_class=each)
    return [(row["text"], row["label"]) for row in read_rows(source).rows]


def test_a_folder_of_reviews_is_split_into_train_and_dev_by_file_name(tmp_path: Path) -> None:
    folder = reviews(tmp_path)
    assert imdb(folder, "train") == [
        (f"train {name} {n} <br /> é", label) for label, name in enumerate(("neg", "pos")) for n in range(3)
    ]
    assert [label for _, label in imdb(folder, "dev")] == [0, 0, 1, 1]
    assert not {text for text, _ in imdb(folder, "train")} & {text for text, _ in imdb(folder, "dev")}
    assert len(imdb(folder, "test")) == 4


def test_a_part_without_reviews_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds none"):
        imdb(reviews(tmp_path), "dev", each=5)


def test_the_table_of_reviews_is_split_by_text_and_repeats_are_dropped() -> None:
    rows = [{"review": f"review {n % 900}", "sentiment": "positive"} for n in range(1000)]
    parts = {part: [row["review"] for row in review_part(rows, part)] for part in ("train", "dev", "test")}
    together = [*parts["train"], *parts["dev"], *parts["test"]]
    assert sorted(together) == sorted({row["review"] for row in rows})
    assert [len(parts[part]) / 900 for part in parts] == pytest.approx([0.4, 0.1, 0.5], abs=0.07)
    assert {row["review"] for row in review_part(rows[::-1], "dev")} == set(parts["dev"])


FORMAT = {"kind": "classification", "text": "{sentence}", "label": "label", "classes": ("negative", "positive")}


def dataset(path: Path, **changes: Any) -> DatasetSpec:
    return DatasetSpec(
        source=FileData(kind="file", path=str(path)), format=ClassificationFormat.model_validate({**FORMAT, **changes})
    )


def test_labels_are_read_as_names_and_as_numbers(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"sentence": "a", "label": 1}\n{"sentence": "b", "label": "negative"}\n{"sentence": "c", "label": "1"}\n'
    )
    examples = load_examples(dataset(file))
    assert [(e.prompt, e.answer, e.label, e.target) for e in examples] == [
        ("a", "positive", 1, "class"),
        ("b", "negative", 0, "class"),
        ("c", "positive", 1, "class"),
    ]


@pytest.mark.parametrize("label", ["2", '"neutral"', "-1", "0.5"])
def test_a_label_that_is_no_class_is_named_with_its_row(tmp_path: Path, label: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"sentence": "a", "label": 0}}\n{{"sentence": "b", "label": {label}}}\n')
    with pytest.raises(DataError, match="not one of the classes") as caught:
        load_examples(dataset(file))
    assert "rows.jsonl:2" in str(caught.value)


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"sentence": "a", "labels": 0}\n')
    with pytest.raises(DataError, match="use `labels`"):
        load_examples(dataset(file))


@pytest.mark.parametrize("name", ["glue", "imdb"])
def test_a_hub_set_with_class_labels_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    column = "sentence" if name == "glue" else "text"
    features = datasets.Features(
        {column: datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    table = datasets.Dataset.from_dict({column: ["fine", "poor"], "label": [1, 0]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    spec = DatasetSpec(
        source=HubData(kind="hub", id=f"x/{name}", split="train"),
        format=ClassificationFormat.model_validate({**FORMAT, "text": f"{{{column}}}"}),
    )
    assert [(e.prompt, e.label) for e in load_examples(spec)] == [("fine", 1), ("poor", 0)]
