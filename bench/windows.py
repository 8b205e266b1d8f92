"""What windows cost per row: the generated kernels alone, over rows as chains lift them, beside a loop written by hand.

    python bench/windows.py [ROWS]

Prints µs of CPU time per row, with the watermark after each batch: for tumbling windows of 10 s, hopping ones of which
6 overlap, sessions, sliding windows, counts and running totals, all with count and sum; the time of checkpoints apart.
`x` is how many times as long as tumbling windows it takes, for those as the loop by hand. First with 10,000 keys, each
with about one record in two windows, then with 100 keys of 50 records in a window. An event every 2 ms, up to 500 ms
out of order.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from typing import Any

from streamd.expr import parse_aggregate
from streamd.record import BEGINNING, Result
from streamd.state.store import TableStore
from streamd.windows.build import kernel_of
from streamd.windows.spec import WindowSpec

BATCH = 2000
SIZE, GRACE = 10_000, 5_000
AGGREGATES = {"count": parse_aggregate("count()"), "sum": parse_aggregate("sum(amount)")}
Row = tuple[Any, ...]


def rows(count: int, users: int) -> list[Row]:
    """(record, time, watermark, key, amount)"""
    dice = random.Random(7)
    names = [f"user-{number}" for number in range(users)]
    found: list[Row] = []
    watermark = BEGINNING
    for number in range(count):
        at = 1_700_000_000_000 + number * 2 + dice.randint(-500, 500)
        watermark = max(watermark, at)
        found.append((None, at, watermark, dice.choice(names), round(dice.random() * 500, 2)))
    return found


class ByHand:
    """Tumbling windows as one would write them for just this."""

    def __init__(self) -> None:
        self.windows: dict[int, dict[str, list[Any]]] = {}
        self.dirty: set[tuple[int, str]] = set()

    def process(self, rows: list[Row], out: list[Result], failed: list[Any]) -> None:
        windows, dirty = self.windows, self.dirty
        for _, at, watermark, user, amount in rows:
            start = at - at % SIZE
            if start + SIZE + GRACE <= watermark:
                continue
            users = windows.get(start)
            if users is None:
                users = windows[start] = {}
            a = users.get(user)
            if a is None:
                users[user] = [1, amount]
            else:
                a[0] += 1
                a[1] += amount
            dirty.add((start, user))

    def advance(self, watermark: int, out: list[Result]) -> int:
        for start in [start for start in self.windows if start + SIZE + GRACE <= watermark]:
            for user, (count, total) in self.windows.pop(start).items():
                self.dirty.add((start, user))
                value = {"user": user, "start": start, "count": count, "sum": total}
                out.append(Result(value, user.encode(), start + SIZE - 1))
        return watermark


def run(name: str, kernel: Any, store: TableStore | None, rows: list[Row], beside: float) -> float:
    """Time a kernel; returns µs per row."""
    out: list[Result] = []
    given = late = 0
    spent = checkpoints = 0.0
    gc.collect()
    gc.freeze()
    gc.disable()
    for number, start in enumerate(range(0, len(rows), BATCH), start=1):
        part, failed = rows[start : start + BATCH], []
        began = time.process_time()
        kernel.process(part, out, failed)
        kernel.advance(part[-1][2], out)
        spent += time.process_time() - began
        given, late = given + len(out), late + len(failed)
        out.clear()
        if number % 50 == 0:
            gc.collect()
            began = time.process_time()
            if store is not None:
                store.changes()
                store.committed()
            else:
                kernel.dirty.clear()
            checkpoints += time.process_time() - began
    gc.enable()
    gc.unfreeze()
    each = spent / len(rows) * 1e6
    print(
        f"{name:34} {each:6.2f} µs/row  {each / beside if beside else 1:5.2f} x  "
        f"{checkpoints / len(rows) * 1e6:6.2f} µs/row in checkpoints  {given / len(rows):5.2f} results/row  {late} late"
    )
    return each


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    for users in (10_000, 100):
        print(f"{users:,} keys")
        data = rows(count, users)

        def kernel(name: str, data: list[Row], beside: float, **settings: Any) -> float:
            spec = WindowSpec(aggregates=AGGREGATES, by=("user",), **{"grace": GRACE, **settings})
            made, store = kernel_of(spec), TableStore()
            made.open(store)
            return run(name, made, store, data, beside)

        by_hand = run("by hand, tumbling 10s", ByHand(), None, data, 0)
        tumbling = kernel("tumbling 10s", data, by_hand, kind="tumbling", size=SIZE, every=SIZE)
        kernel("hopping 10s every 2s", data, tumbling, kind="hopping", size=10_000, every=2_000)
        kernel("hopping 60s every 10s", data, tumbling, kind="hopping", size=60_000, every=10_000)
        kernel(
            "hopping 60s every 10s, on_update", data, tumbling, kind="hopping", size=60_000, every=10_000, emit="update"
        )
        kernel("session, gap 10s", data, tumbling, kind="session", gap=10_000)
        kernel("sliding 10s", data, tumbling, kind="sliding", size=SIZE, every=SIZE)
        kernel("count 10", data, tumbling, kind="count", size=10, every=10, grace=0)
        kernel("count 10 every 2", data, tumbling, kind="count", size=10, every=2, grace=0)
        kernel("global, on_update", data, tumbling, kind="global", emit="update", grace=0)


if __name__ == "__main__":
    main()
