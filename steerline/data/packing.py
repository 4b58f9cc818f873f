"""Several short examples in one row: which go together."""

from __future__ import annotations

from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing bin packing: longest first, each into the fullest row that still has room.

    Deterministic: equal lengths go in the order given. There are at most 11/9 of the least possible number of rows,
    plus one.

    Args:
        lengths: tokens of each example.
        capacity: tokens of a row.

    Returns:
        Rows of indices into `lengths`, in the order in which they were opened.

    Raises:
        ValueError: an example is longer than a row.
    """
    rows: list[list[int]] = []
    # Rows by the room they have left; bit c of `rooms` says that some row has room c, so the tightest fit is the lowest
    # bit at or above the length.
    by_room: dict[int, list[int]] = {}
    rooms = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if not 0 < length <= capacity:
            raise ValueError(f"example {index} has {length} tokens, a row holds 1 to {capacity}")
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
            rows[row].append(index)
        else:
            room, row = capacity, len(rows)
            rows.append([index])
        left = room - length
        if left:
            by_room.setdefault(left, []).append(row)
            rooms |= 1 << left
    return rows
