"""Rows of a source with enough memory of where they came from to name one in an error."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steerline.errors import DataError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows of one source.

    Args:
        name: short and stable, the first part of every example's id, e.g. `boolq-train`.
        label: what a person would call the source, e.g. a file's path.
        rows: the rows themselves.
        places: where each row stands, e.g. `data.jsonl:12`; none for `label, row 12`.
    """

    name: str
    label: str
    rows: Sequence[Row]
    places: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, index: int) -> str:
        """Where row `index` (from 0) stands."""
        return f"{self.label}, row {index + 1}" if self.places is None else self.places[index]

    def id(self, index: int) -> str:
        """The id of the example that row `index` becomes."""
        return f"{self.name}/{index}"


def nearest(wanted: str, available: Sequence[str]) -> str | None:
    """The available name most like the wanted one; none if nothing is alike."""
    near = difflib.get_close_matches(wanted, available, n=1, cutoff=0.5)
    return near[0] if near else None


def missing_column(wanted: str, row: Row, place: str) -> DataError:
    """The error for a column that a row does not have."""
    columns = sorted(str(column) for column in row)
    near = nearest(wanted, columns)
    return DataError(
        f"a row has no column `{wanted}`",
        where=place,
        got=f"columns {', '.join(columns)}",
        fix=f"use `{near}`" if near else "name one of these columns in `format`",
    )
