"""What joins of two streams give, by looking at all pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

# (number, time, watermark, port, key)
Row = tuple[int, int, int, int, Any]
TYPES = {"inner": (False, False), "left": (True, False), "right": (False, True), "full": (True, True)}


def rows_of(found: Sequence[tuple[int, int, Any]], out_of_order: int) -> list[Row]:
    """Rows of (time, port, key), numbered from 1, with the watermark of each."""
    high, rows = -out_of_order, []
    for number, (time, port, key) in enumerate(found, start=1):
        high = max(high, time)
        rows.append((number, time, high - out_of_order, port, key))
    return rows


def oracle(
    rows: Sequence[Row],
    outer: tuple[bool, bool],
    meets: Callable[[Row, Row, Row], bool],
    late: Callable[[Row], bool],
    where: Callable[[int, int], bool] | None = None,
) -> list[tuple[int, int, bytes, int]]:
    """(number of left, of right, key, time) of all pairs, and with -1 of those that found nobody; sorted.

    `meets(left, right, the one that came later)`: whether their times allow it.
    """
    taken: list[Row] = []
    pairs: list[tuple[int, int, bytes, int]] = []
    met: set[int] = set()
    for row in rows:
        if late(row):
            continue
        for other in taken:
            left, right = (row, other) if row[3] == 0 else (other, row)
            if row[3] == other[3] or row[4] != other[4] or not meets(left, right, row):
                continue
            if where is not None and not where(left[0], right[0]):
                continue
            met |= {row[0], other[0]}
            key = str(row[4]).encode()
            pairs.append((left[0], right[0], key, max(left[1], right[1])))
        taken.append(row)
    for number, time, _, port, key in taken:
        if outer[port] and number not in met:
            pairs.append((*((number, -1) if port == 0 else (-1, number)), str(key).encode(), time))
    return sorted(pairs)
