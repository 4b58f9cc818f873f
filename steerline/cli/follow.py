"""A job's output as it comes: a progress bar in a terminal, the plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from steerline.progress import Progress as Step
from steerline.progress import parse_progress


def follow(pieces: Iterable[str], console: Console) -> None:
    """Print the pieces of a job's output until there are no more.

    Args:
        pieces: text, cut anywhere.
        console: a terminal shows progress lines as a bar; anything else gets every line as it is.
    """
    if not console.is_terminal:
        for line in _lines(pieces):
            console.print(line, markup=False, soft_wrap=True)
        return
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[values]}"), console=console) as bar:
        task: TaskID | None = None
        for line in _lines(pieces):
            step = parse_progress(line)
            if step is None:
                console.print(Text.from_ansi(line), soft_wrap=True)
            elif task is None:
                task = bar.add_task("steps", total=step.total, completed=step.step, values=_values(step))
            else:
                bar.update(task, total=step.total, completed=step.step, values=_values(step))


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines
    if rest:
        yield rest


def _values(step: Step) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in step.values.items())
