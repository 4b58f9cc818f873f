"""Where commands print: results to standard output, what goes on meanwhile to standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print text as it is; long lines are left to the terminal to fold, so that they can be copied."""
    out.print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning."""
    err.print(f"[yellow]warning[/yellow] {escape(text)}", soft_wrap=True)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """While inside, a spinner whose text follows the calls in a terminal, plain lines elsewhere."""
    if not err.is_terminal:
        err.print(what, markup=False)
        yield lambda text: err.print(text, markup=False, soft_wrap=True)
        return
    with err.status(what) as status:
        yield lambda text: status.update(escape(text))


def grid(rows: Sequence[tuple[str, str]]) -> Table:
    """Names and values in two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value))
    return table
