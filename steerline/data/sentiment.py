"""Sentiment data sets in the raw form that their authors published: SST-2 from the treebank, IMDB from its folder.

Both are read as the code of the SAFR paper (arXiv 2501.16374) reads them. Which 10,000 of IMDB's 12,500 training
reviews per class the authors took is not known; here they are the first by file name.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from steerline.config.data import ReviewFolderData, TreebankData
from steerline.data.rows import Row, Rows
from steerline.errors import DataError

logger = logging.getLogger(__name__)
Part = Literal["train", "dev", "test"]

_NEGATIVE_UP_TO = 0.4
_POSITIVE_ABOVE = 0.6
_SPLIT_IDS = {"1": "train", "2": "test", "3": "dev"}
_CLASS_FOLDERS = ("neg", "pos")


def read_treebank(source: TreebankData) -> Rows:
    """One part of SST-2: rows of `text` and `label` (0 negative, 1 positive), in the treebank's order.

    Sentences that the phrase dictionary spells otherwise (brackets, accents) have no score and are left out; a log line
    counts them.

    Raises:
        DataError: a file is missing, or a line in it is not of the treebank's form.
    """
    folder = _folder(source.path, "datasetSentences.txt")
    sentences = dict(_table(folder / "datasetSentences.txt", "\t", header=True))
    parts = dict(_table(folder / "datasetSplit.txt", ",", header=True))
    phrases = dict(_table(folder / "dictionary.txt", "|", header=False))
    scores = dict(_table(folder / "sentiment_labels.txt", "|", header=True))
    rows: list[Row] = []
    unknown = 0
    for number, text in sentences.items():
        if _SPLIT_IDS.get(parts.get(number, "")) != source.split:
            continue
        phrase = phrases.get(text)
        if phrase is None or phrase not in scores:
            unknown += 1
            continue
        score = _score(scores[phrase], folder, phrase)
        if score <= _NEGATIVE_UP_TO or score > _POSITIVE_ABOVE:
            rows.append({"text": text, "label": int(score > _POSITIVE_ABOVE)})
    if unknown:
        logger.warning("%d sentences of %s have no score in the dictionary and are left out", unknown, folder)
    kept = balanced(rows) if source.split == "train" else rows
    return Rows(name=f"sst2-{source.split}", label=f"{folder}, split {source.split}", rows=kept)


def balanced(rows: Sequence[Row]) -> list[Row]:
    """The rows in order, the larger class cut short so that both have as many."""
    each = min(sum(row["label"] == label for row in rows) for label in (0, 1))
    kept = {id(row) for label in (0, 1) for row in islice((row for row in rows if row["label"] == label), each)}
    return [row for row in rows if id(row) in kept]


def read_review_folder(source: ReviewFolderData) -> Rows:
    """One part of IMDB: rows of `text` (html as it is) and `label` (0 negative, 1 positive), negative ones first.

    Raises:
        DataError: a folder is missing or holds no reviews, or there are too few for the part.
    """
    root = _folder(source.path, "train")
    rows: list[Row] = []
    places: list[str] = []
    for label, name in enumerate(_CLASS_FOLDERS):
        folder = root / ("test" if source.split == "test" else "train") / name
        files = sorted(folder.glob("*.txt"))
        if source.split != "test":
            first = source.train_per_class
            files = files[:first] if source.split == "train" else files[first:]
        if not files:
            raise DataError(
                "a folder of reviews holds none for this part",
                where=str(folder),
                got=f"split {source.split}, {source.train_per_class} of each class in train",
                expected="text files NUMBER_STARS.txt",
                fix="unpack the archive whole, or lower `train_per_class`",
            )
        rows += [{"text": file.read_text(encoding="utf-8"), "label": label} for file in files]
        places += [str(file) for file in files]
    return Rows(f"imdb-{source.split}", f"{root}, split {source.split}", rows, places)


def review_part(rows: Sequence[Row], part: Part) -> list[Row]:
    """One part of a table of IMDB reviews (`review`, `sentiment`) that has lost its official split.

    Reviews that are there twice are kept once. The SHA-256 of a review's text decides its part, so that no text is in
    two: of ten, five go to test, four to train and one to dev, near the paper's 25,000, 20,000 and 5,000.
    """
    kept: dict[str, Row] = {}
    for row in rows:
        kept.setdefault(row["review"], row)
    return [row for text, row in kept.items() if _part_of(text) == part]


def _part_of(text: str) -> Part:
    tenth = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10
    if tenth < 5:
        return "test"
    return "train" if tenth < 9 else "dev"


def _folder(path: str, wanted: str) -> Path:
    folder = Path(path).expanduser()
    if not (folder / wanted).exists():
        inside = sorted(entry.name for entry in folder.iterdir())[:8] if folder.is_dir() else []
        raise DataError(
            "this folder is not the data set as its authors published it",
            where=str(folder),
            got=", ".join(inside) or ("an empty folder" if folder.is_dir() else "no such folder"),
            expected=f"`{wanted}` in it",
            fix="unpack the authors' archive and name the folder that holds it",
        )
    return folder


def _table(path: Path, separator: str, *, header: bool) -> Iterator[tuple[str, str]]:
    """Key and value of each line. The dictionary is split at its last bar, the others at the first separator."""
    if not path.is_file():
        raise DataError("a file of the treebank is missing", where=str(path), fix="unpack the archive whole")
    split: Callable[[str, str], tuple[str, str, str]] = str.partition if header else str.rpartition
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line or (header and number == 1):
            continue
        key, found, value = split(line.removesuffix("\r"), separator)
        if not found:
            raise DataError(
                "a line is not of the treebank's form",
                where=f"{path}:{number}",
                got=line[:80],
                expected=f"two fields with {separator!r} between them",
            )
        yield key, value


def _score(text: str, folder: Path, phrase: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            "a sentiment score is not a number",
            where=f"{folder / 'sentiment_labels.txt'}, phrase {phrase}",
            got=text,
            expected="0 to 1",
        ) from error
