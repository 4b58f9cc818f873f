"""The column layouts in which a task's rows come, each read into the task's one normal form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from steerline.data.rows import Row, missing_column
from steerline.errors import DataError

Item = TypeVar("Item")


class UnreadableRowError(Exception):
    """A row has the right columns but a value that its layout cannot read; the message says which."""


@dataclass(frozen=True)
class Layout(Generic[Item]):
    """Columns that must be there, and the function that reads a row which has them."""

    columns: tuple[str, ...]
    read: Callable[[Row], Item]

    def fits(self, row: Row) -> bool:
        """Whether the row has all the columns."""
        return all(column in row for column in self.columns)


def read_row(row: Row, layouts: tuple[Layout[Item], ...], place: str) -> Item:
    """The row in normal form, by the first layout that fits.

    Raises:
        DataError: no layout fits, or a value is not what the layout needs.
    """
    for layout in layouts:
        if layout.fits(row):
            try:
                return layout.read(row)
            except UnreadableRowError as error:
                raise DataError("a row cannot be used for this task", where=place, got=str(error)) from error
    if len(layouts) == 1:
        raise missing_column(next(name for name in layouts[0].columns if name not in row), row, place)
    best = max(layouts, key=lambda layout: sum(column in row for column in layout.columns))
    missing = [column for column in best.columns if column not in row]
    problem = missing_column(missing[0], row, place)
    problem.expected = " or ".join("{" + ", ".join(layout.columns) + "}" for layout in layouts)
    raise problem


def text_of(row: Row, column: str) -> str:
    """The column as text without outer whitespace (both papers strip it)."""
    value = row[column]
    if not isinstance(value, str):
        raise UnreadableRowError(f"`{column}` is {value!r}, not a text")
    return value.strip()


def index_of(value: Any, count: int, *, first: int = 0, column: str) -> int:
    """A label as an index from 0. Hidden test labels (-1, an empty text) are refused."""
    try:
        index = int(value) - first
    except (TypeError, ValueError):
        index = -1
    if not 0 <= index < count:
        raise UnreadableRowError(f"`{column}` is {value!r}, not one of {count} labels (test splits often hide them)")
    return index
