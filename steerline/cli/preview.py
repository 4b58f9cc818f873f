"""Drawing a data set for people: decoded rows, their packing, and the distribution of lengths."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from steerline.cli.terminal import grid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from steerline.data.dataset import BuildReport, TokenDataset
    from steerline.data.tokens import TokenizedExample

_NUM_BINS = 12
_BAR = 40


def show(
    dataset: TokenDataset, tokenizer: PreTrainedTokenizerBase, console: Console, *, num_rows: int, capacity: int
) -> None:
    """Print some rows of a data set, evenly spread, how they are filled, and the lengths of all rows.

    Args:
        dataset: the rows.
        tokenizer: decodes them.
        console: where to.
        num_rows: rows to show.
        capacity: the longest row, in tokens.
    """
    for index in spread(len(dataset), num_rows):
        row = dataset[index]
        tokens, targets = dataset.lengths[index], dataset.num_targets(index)
        console.print(Rule(f"row {index}: {tokens} of {capacity} tokens, {targets} carry the loss", align="left"))
        if len(row) > 1:
            console.print(Text(layout([len(example) for example in row], capacity)))
        for example in row:
            console.print(Text(example.id, style="dim"))
            console.print(decoded(example, tokenizer, mark=not console.is_terminal), soft_wrap=True)
            if example.label is not None:
                console.print(Text(f"class {example.label}", style="dim"))
    console.print(Rule("lengths of rows, in tokens", align="left"))
    for line in histogram(dataset.lengths, capacity):
        console.print(line, markup=False)
    console.print(Rule("data set", align="left"))
    console.print(grid(facts(dataset.report, dataset.digest)))


def spread(total: int, wanted: int) -> list[int]:
    """Evenly spread places in a sequence, first and last included. Packed rows are sorted by how they are filled."""
    if wanted >= total:
        return list(range(total))
    return [round(i * (total - 1) / max(1, wanted - 1)) for i in range(wanted)]


def decoded(example: TokenizedExample, tokenizer: PreTrainedTokenizerBase, *, mark: bool) -> Text:
    """An example's text, with the tokens that carry the loss in colour, and in [[ ]] when `mark` is on."""
    text = Text()
    pairs = zip(example.input_ids.tolist(), example.targets.tolist(), strict=True)
    for carries_loss, span in groupby(pairs, key=lambda pair: bool(pair[1])):
        piece = str(tokenizer.decode([token for token, _ in span]))
        if carries_loss:
            text.append(f"[[{piece}]]" if mark else piece, style="bold green")
        else:
            text.append(piece)
    return text


def layout(lengths: list[int], capacity: int, width: int = 60) -> str:
    """A packed row as a bar: one letter for each example, dots for what stays empty."""
    bar = ""
    filled = 0
    for number, length in enumerate(lengths):
        filled += length
        bar += chr(ord("a") + number % 26) * (round(filled / capacity * width) - len(bar))
    return f"|{bar.ljust(width, '.')}| {len(lengths)} examples, {filled / capacity:.0%} full"


def histogram(lengths: tuple[int, ...], capacity: int) -> list[str]:
    """How many rows have which length, as lines of text; the last bin ends at `capacity`."""
    width = max(1, -(-capacity // _NUM_BINS))
    counts = [0] * -(-capacity // width)
    for length in lengths:
        counts[min((length - 1) // width, len(counts) - 1)] += 1
    most = max(counts)
    return [
        f"{i * width + 1:>6} - {min((i + 1) * width, capacity):<6} {count:>8} {'#' * round(count / most * _BAR)}"
        for i, count in enumerate(counts)
    ]


def facts(report: BuildReport, digest: str) -> list[tuple[str, str]]:
    """What became of the examples."""
    rows = [
        ("examples", f"{report.examples} loaded, {report.kept} kept in {report.rows} rows"),
        ("tokens", f"{report.tokens}, {report.targets} of them carry the loss"),
        ("efficiency", f"{report.efficiency:.1%} of the rows' places hold a token"),
        ("digest", digest),
    ]
    for name, ids in (
        ("too long", report.dropped_overlong),
        ("cut", report.truncated),
        ("no answer left", report.dropped_without_targets),
    ):
        if ids:
            rows.append((name, f"{len(ids)}: {', '.join(ids[:5])}{', ...' * (len(ids) > 5)}"))
    return rows
