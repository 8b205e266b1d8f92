"""What a join costs per row: the kernel alone, over rows as chains lift them, with about one match for each.

    python bench/joins.py [ROWS]

Prints µs of CPU time per row for bounds of several kinds, for a hot key, and the changelog's bytes of a checkpoint.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from streamd.expr import parse
from streamd.joins.lookup import AsOfJoin, LatestJoin
from streamd.joins.results import Results
from streamd.joins.streams import Bounds, StreamJoin
from streamd.state.store import TableStore

BATCH = 2000
FIELDS = {"id": parse("left.id"), "amount": parse("left.amount"), "by": parse("right.by")}


def orders_and_payments(count: int, *, flagged: tuple[bool, bool], keys: int | None = None) -> list[tuple[Any, ...]]:
    """A payment up to 10 s after its order, 10 rows a ms apart; with `keys`, all on so few of them."""
    dice = random.Random(1)
    events: list[tuple[int, int, str, list[Any]]] = []
    for number in range(count // 2):
        at = number // 5
        key = f"o-{number if keys is None else dice.randrange(keys)}"
        events.append((at, 0, key, [at, *([0] if flagged[0] else []), number, 12.5]))
        later = at + dice.randrange(10_000)
        events.append((later, 1, key, [later, *([0] if flagged[1] else []), "card"]))
    events.sort(key=lambda event: event[0])
    return [(None, at, at, port, key, row) for at, port, key, row in events]


def run(name: str, rows: list[tuple[Any, ...]], make: Callable[[], Any]) -> None:
    """Time the kernel, with the watermark after each batch and a checkpoint after every hundred."""
    store, join = TableStore(), make()
    join.open(store)
    out: list[Any] = []
    given = written = 0
    kernel = checkpoints = 0.0
    for number, start in enumerate(range(0, len(rows), BATCH), start=1):
        part = rows[start : start + BATCH]
        began = time.process_time()
        join.process(part, out, [])
        join.advance(part[-1][2], out)
        kernel += time.process_time() - began
        given += len(out)
        out.clear()
        if number % 100 == 0:
            began = time.process_time()
            written += sum(len(key) + len(value or b"") for key, value in store.changes())
            store.committed()
            checkpoints += time.process_time() - began
    each = len(rows) / 1e6
    print(
        f"{name:34} {kernel / each:6.2f} µs/row  {checkpoints / each:6.2f} µs/row in checkpoints"
        f"  {written / len(rows):7.0f} bytes/row  {given / len(rows):5.2f} results/row"
    )


def main() -> None:
    gc.disable()  # as workers do, which collect between batches
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    inner, left = (False, False), (True, False)

    def stream(bounds: Bounds, outer: tuple[bool, bool]) -> Callable[[], StreamJoin]:
        first = (1 + outer[0], 1 + outer[1])
        return lambda: StreamJoin(Results(("left", "right"), FIELDS, None, first), bounds, outer)

    plain = orders_and_payments(count, flagged=inner)
    run("within 10s", plain, stream(Bounds((0, 10_000)), inner))
    run("within 10m", plain, stream(Bounds((600_000, 600_000)), inner))
    run("within 10s, left", orders_and_payments(count, flagged=left), stream(Bounds((0, 10_000)), left))
    run("keep 1m", plain, stream(Bounds(None, 60_000), inner))
    run("for ever", plain, stream(Bounds(), inner))
    hot = orders_and_payments(count // 10, flagged=inner, keys=20)
    run("within 100 ms, 20 hot keys", hot, stream(Bounds((50, 50)), inner))
    results = Results(("left", "right"), {"id": parse("left.id"), "by": parse("right.by")}, None, (1, 1))
    run("table, latest", plain, lambda: LatestJoin(results, 1, False))
    run("table, as of event time", plain, lambda: AsOfJoin(results, 1, False, 0))


if __name__ == "__main__":
    main()
