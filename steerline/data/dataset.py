"""The rows that a model is trained on: examples loaded, tokenised, cut to length and, on request, packed."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steerline.config.data import DatasetSpec, DataSpec
from steerline.data.batch import Row
from steerline.data.examples import Example
from steerline.data.load import digest, load_all
from steerline.data.packing import pack
from steerline.data.tokens import LossOn, TokenizedExample, tokenize_all
from steerline.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
_CHUNK = 2000
_PROGRESS_EVERY_SECONDS = 5.0
_NAMED = 5


@dataclass(frozen=True)
class BuildReport:
    """What became of the examples on their way to rows.

    Args:
        examples: examples loaded.
        kept: examples that the rows hold.
        dropped_overlong: ids left out because they were too long.
        truncated: ids whose end was cut.
        dropped_without_targets: ids left out because nothing that carries the loss was left of them.
        rows: rows.
        tokens: tokens in the rows, without padding.
        targets: tokens that carry the loss.
        efficiency: share of the rows' places that hold a token; 1 without packing, where a batch's padding depends on
            its neighbours.
        examples_digest: SHA-256 of the examples before tokenisation.
    """

    examples: int
    kept: int
    dropped_overlong: tuple[str, ...]
    truncated: tuple[str, ...]
    dropped_without_targets: tuple[str, ...]
    rows: int
    tokens: int
    targets: int
    efficiency: float
    examples_digest: str


class TokenDataset:
    """Rows of tokenised examples, with their digest and a report of how they came to be.

    Build it with `build`. A row is a tuple of examples: one without packing, several with it.
    """

    def __init__(self, rows: Sequence[Row], report: BuildReport) -> None:
        self.rows = rows
        self.report = report
        self.lengths: tuple[int, ...] = tuple(sum(len(example) for example in row) for row in rows)
        self.digest = _digest(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def num_targets(self, index: int) -> int:
        """Tokens of row `index` that carry the loss."""
        return sum(example.num_targets for example in self.rows[index])


def build(specs: Sequence[DatasetSpec], data: DataSpec, tokenizer: PreTrainedTokenizerBase, seed: int) -> TokenDataset:
    """Load, tokenise and cut the examples of `specs`, and pack them where the config says so.

    Args:
        specs: `data.train` or `data.heldout`; several sets are joined, so that they mix in proportion to their sizes.
        data: lengths, packing and loss.
        tokenizer: of the model.
        seed: decides which examples of equal length share a packed row; without packing it has no effect.

    Raises:
        DataError: a source or format problem, an over-long example under `overlong: error`, or nothing left.
        FetchError: a packaged source cannot be downloaded.
    """
    examples = load_all(specs)
    _warn_of_absent_classes(examples)
    encoded = _tokenize_with_progress(examples, tokenizer, data.loss_on)
    kept, cut = _cut(encoded, data)
    if not kept:
        raise DataError(
            "no example is left to train on",
            where=", ".join(str(spec.source) for spec in specs),
            got=f"{len(examples)} examples, all longer than {data.max_length_tokens} tokens or without an answer",
            fix="raise `data.max_length_tokens`",
        )
    rows = _pack(kept, data.max_length_tokens, seed) if data.packing else [(example,) for example in kept]
    tokens = sum(len(example) for example in kept)
    report = BuildReport(
        examples=len(examples),
        kept=len(kept),
        dropped_overlong=cut.dropped,
        truncated=cut.truncated,
        dropped_without_targets=cut.without_targets,
        rows=len(rows),
        tokens=tokens,
        targets=sum(example.num_targets for example in kept),
        efficiency=tokens / (len(rows) * data.max_length_tokens) if data.packing else 1.0,
        examples_digest=digest(examples),
    )
    _log(report)
    return TokenDataset(rows, report)


def _tokenize_with_progress(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, loss_on: LossOn
) -> list[TokenizedExample]:
    encoded: list[TokenizedExample] = []
    said = time.monotonic()
    for start in range(0, len(examples), _CHUNK):
        encoded += tokenize_all(examples[start : start + _CHUNK], tokenizer, loss_on)
        if time.monotonic() - said > _PROGRESS_EVERY_SECONDS:
            said = time.monotonic()
            logger.info("tokenised %d of %d examples", len(encoded), len(examples))
    return encoded


def _warn_of_absent_classes(examples: Sequence[Example]) -> None:
    if any(example.target != "class" for example in examples):
        return
    present = {example.label for example in examples}
    absent = [name for number, name in enumerate(examples[0].choices) if number not in present]
    if absent:
        logger.warning("no example is of class %s: a model cannot learn it from these", ", ".join(absent))


@dataclass(frozen=True)
class _Cut:
    dropped: tuple[str, ...]
    truncated: tuple[str, ...]
    without_targets: tuple[str, ...]


def _cut(encoded: Sequence[TokenizedExample], data: DataSpec) -> tuple[list[TokenizedExample], _Cut]:
    limit = data.max_length_tokens
    long = [example for example in encoded if len(example) > limit]
    if long and data.overlong == "error":
        raise _overlong(long, len(encoded), limit)
    if data.overlong == "drop":
        fitting = [example for example in encoded if len(example) <= limit]
    else:
        fitting = [example.truncated(limit) if len(example) > limit else example for example in encoded]
    kept = [example for example in fitting if example.num_targets]
    without = _ids([example for example in fitting if not example.num_targets])
    if data.overlong == "drop":
        return kept, _Cut(_ids(long), (), without)
    empty = set(without)
    return kept, _Cut((), tuple(example.id for example in long if example.id not in empty), without)


def _overlong(long: Sequence[TokenizedExample], total: int, limit: int) -> DataError:
    longest = sorted(long, key=len, reverse=True)[:_NAMED]
    more = f" and {len(long) - _NAMED} more" if len(long) > _NAMED else ""
    return DataError(
        f"{len(long)} of {total} examples are longer than a row",
        where="data.max_length_tokens",
        got=", ".join(f"{example.id}: {len(example)} tokens" for example in longest) + more,
        expected=f"at most {limit} tokens",
        fix="raise `data.max_length_tokens`, or set `data.overlong` to `truncate` or `drop`",
    )


def _pack(examples: Sequence[TokenizedExample], capacity: int, seed: int) -> list[Row]:
    order = list(range(len(examples)))
    # Packing goes by length, ties by position: drawing the positions mixes data sets within rows.
    random.Random(seed).shuffle(order)  # noqa: S311 (reproducible draws, not secrets)
    packed = pack([len(examples[index]) for index in order], capacity)
    return [tuple(examples[order[position]] for position in row) for row in packed]


def _ids(examples: Sequence[TokenizedExample]) -> tuple[str, ...]:
    return tuple(example.id for example in examples)


def _digest(rows: Sequence[Row]) -> str:
    state = hashlib.sha256()
    for row in rows:
        state.update(f"row {len(row)}\n".encode())
        for example in row:
            state.update(f"{example.id}\n{len(example)}\n".encode())
            state.update(example.input_ids.astype("<i4").tobytes())
            state.update(example.targets.astype("u1").tobytes())
            if example.label is not None:
                state.update(f"class {example.label}\n".encode())
    return state.hexdigest()


def _log(report: BuildReport) -> None:
    logger.info(
        "%d examples in %d rows, %d tokens, %d of them targets",
        report.kept,
        report.rows,
        report.tokens,
        report.targets,
    )
    for what, ids in (
        ("left out as too long", report.dropped_overlong),
        ("cut at the end", report.truncated),
        ("left out because no answer was left after cutting", report.dropped_without_targets),
    ):
        if ids:
            more = ", ..." if len(ids) > _NAMED else ""
            logger.warning("%d examples were %s: %s%s", len(ids), what, ", ".join(ids[:_NAMED]), more)
