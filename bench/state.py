"""What state costs: a checkpoint, a restore, a record at a growing number of keys, and beyond memory.

    bench/state.py [--keys 1_000_000 5_000_000] [changes] [restore] [records] [beyond] [pauses] [snapshot] [ttl]

CPU time of one process, as others may share the machine. No broker: what Kafka's part of a restore costs is measured
over record batches in memory. `beyond` gives the table a quarter of the memory that it needs, and draws keys at random,
which is the worst there is.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import orjson

from streamd.component.state import Table
from streamd.component.transaction import Changelog
from streamd.record import TaskId
from streamd.runtime.garbage import Garbage
from streamd.stages.aggregate import AggregateConfig, AggregateStage
from streamd.state.cold import ColdTier
from streamd.state.snapshot import Snapshot
from streamd.state.spill import Spill
from streamd.state.store import TableStore
from streamd.state.task_stores import TaskStores
from streamd.transport.embedded.log import log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction
from streamd.transport.kafka.batches import encode, new_builder
from streamd.transport.kafka.records import FetchedRecords

TASK = TaskId("bench", "state", 0, 0)
LOG = Changelog("s", 1)
PER_CHECKPOINT = 100_000
PER_SECOND = 300_000  # which is more than a task reads


def measure_snapshot(folder: Path, keys: int) -> None:
    """What a restart with a snapshot takes, all but reading the tail."""
    changes = written(keys)
    snapshot = Snapshot(folder / "snapshot")
    snapshot.open()
    for at in range(0, keys, 10_000):
        snapshot.add("s", changes[at : at + 10_000], 1)
    snapshot.mark(1, {"s": ("", 0)}, 0)
    snapshot.close()
    store = TableStore()
    store.table("values")
    wall, began = time.monotonic(), time.process_time()
    snapshot = Snapshot(folder / "snapshot")
    assert snapshot.open() is not None
    for some in snapshot.entries("s"):
        store.load(some)
    took, waited = time.process_time() - began, time.monotonic() - wall
    snapshot.close()
    assert len(store) == keys
    print(f"restart with a snapshot, {keys:,} keys: {took:.2f} s of CPU, {waited:.2f} s")


def users(count: int) -> list[str]:
    """Keys as a stage has them."""
    return [f"user-{n:08}" for n in range(count)]


def count(table: Table, keys: list[str]) -> None:
    """What a kernel does with each record: count() and sum(), in place."""
    dirty = table.dirty
    for key in keys:
        row = table[key]
        if row is None:
            row = table[key] = [0, 0.0]
        row[0] += 1
        row[1] += 1.25
        dirty.add(key)


def measure_changes(keys: int) -> None:
    """A checkpoint of so many dirty keys, beside orjson alone."""
    store = TableStore()
    table, names = store.table("values"), users(keys)
    count(table, names)
    store.committed()
    best, alone = 9e9, 9e9
    for _ in range(5):
        count(table, names)
        began = time.process_time()
        for key, value in table.items():
            orjson.dumps(key), orjson.dumps(value)
        alone = min(alone, time.process_time() - began)
        began = time.process_time()
        changes = store.changes()
        store.committed()
        best = min(best, time.process_time() - began)
        assert len(changes) == keys
    print(f"checkpoint, {keys:,} dirty keys: {best / keys * 1e6:.2f} µs each; orjson alone {alone / keys * 1e6:.2f} µs")


def written(keys: int) -> list[tuple[bytes, bytes | None]]:
    """A changelog of so many keys."""
    store = TableStore()
    count(store.table("values"), users(keys))
    return store.changes()


async def measure_embedded(folder: Path, keys: int) -> None:
    """A restore from the embedded log."""
    transaction = EmbeddedTransaction(log_path(folder, "bench"), TASK)
    await transaction.open()
    stores = TaskStores(TASK, {"s": {}}, 1, exact=True)
    count(stores.stores["s"].table("values"), users(keys))
    await transaction.put_positions({}, stores.write(transaction, {}))
    await transaction.commit()
    await transaction.close()
    transaction = EmbeddedTransaction(log_path(folder, "bench"), TASK)
    committed = await transaction.open()
    stores = TaskStores(TASK, {"s": {}}, 1, exact=True)
    stores.stores["s"].table("values")
    began = time.process_time()
    await stores.restore(transaction, committed, lambda _: None)
    took = time.process_time() - began
    assert len(stores.stores["s"]) == keys
    await transaction.close()
    print(f"restore, {keys:,} keys, embedded: {keys / took:,.0f} records/s")


def frames(changes: list[tuple[bytes, bytes | None]]) -> Iterator[tuple[int, bytes]]:
    """Record batches as a broker gives them, with the offset of each one's first record."""
    base = 0
    while base < len(changes):
        builder, number = new_builder(1_000_000), 0
        for key, value in changes[base:]:
            if builder.append(number, 0, key, value, []) is None:
                break
            number += 1
        frame = bytearray(b"".join(encode(builder, 0, 1, 0, 0, transactional=True)))
        frame[:8] = base.to_bytes(8, "big")
        yield base, bytes(frame)
        base += number


def measure_kafka(keys: int) -> None:
    """What a restore from Kafka costs here, beside the network."""
    batches = list(frames(written(keys)))
    store = TableStore()
    store.table("values")
    began = time.process_time()
    for base, frame in batches:
        records = FetchedRecords(frame, 0, len(frame), base, [], check_crcs=True, name="bench")
        while some := records.take(10_000):
            store.load({record.key or b"": record.value for record in some})
    took = time.process_time() - began
    assert len(store) == keys
    print(f"restore, {keys:,} keys, Kafka's batches: {keys / took:,.0f} records/s")


def checkpoint(store: TableStore, spill: Spill | None) -> None:
    """All that a checkpoint costs here."""
    store.changes()
    if spill is not None:
        spill.settle()
        spill.fit()
    store.committed()


def measure_records(keys: int, spill: Spill | None = None, label: str = "") -> None:
    """µs for each record, over random keys."""
    store = TableStore("s", spill)
    table, chance, names = store.table("values"), random.Random(3), users(keys)
    for at in range(0, keys, PER_CHECKPOINT):
        count(table, names[at : at + PER_CHECKPOINT])
        checkpoint(store, spill)
    rounds = [chance.choices(names, k=PER_CHECKPOINT) for _ in range(5)]
    plain = changes = 0.0
    for drawn in rounds:
        began = time.process_time()
        count(table, drawn)
        between = time.process_time()
        checkpoint(store, spill)
        plain += between - began
        changes += time.process_time() - between
    each = 1e6 / (5 * PER_CHECKPOINT)
    print(f"record{label}, {keys:,} keys: {plain * each:.2f} µs + {changes * each:.2f} µs for checkpoints")


async def measure_ttl(keys: int) -> None:
    """µs for each record of `aggregate` over random keys: for ever, and for so long that half rest."""
    drawn = random.Random(3).choices(users(keys), k=10 * PER_CHECKPOINT)
    for ttl in (None, 3600.0, keys / 1000 / 1.4):
        config = AggregateConfig.model_validate({"by": "user", "values": {"n": "count()", "s": "sum(x)"}, "ttl": ttl})
        stage = AggregateStage(config, SimpleNamespace(clock=None, base_dir=None))  # type: ignore[arg-type]
        store = TableStore("s")
        await stage.open(SimpleNamespace(store=store))  # type: ignore[arg-type]
        spent = 0.0
        for at in range(0, len(drawn), 1000):
            rows = [(None, at + n, at + n, key, 1.25) for n, key in enumerate(drawn[at : at + 1000])]
            began = time.process_time()
            stage.process(rows, [], [])
            stage.advance(at + 999, [])
            spent += time.process_time() - began
            if at % PER_CHECKPOINT == 0:
                store.changes()
                store.committed()
        kept = "for ever" if ttl is None else f"for {ttl:g} s"
        print(
            f"aggregate {kept}, {keys:,} keys: {spent / len(drawn) * 1e6:.2f} µs a record, {len(store):,} entries left"
        )


def measure_pauses(keys: int) -> None:
    """The longest collection of garbage in a worker while so many keys come, and once they are there."""
    table, names = TableStore().table("values"), users(keys)
    garbage, longest = Garbage(), [0.0, 0.0]
    for turn in range(2):
        for at in range(0, keys, PER_SECOND):
            count(table, names[at : at + PER_SECOND])
            began = time.process_time()
            garbage.collect()
            longest[turn] = max(longest[turn], time.process_time() - began)
    began = time.process_time()
    gc.unfreeze()
    gc.collect()
    whole = time.process_time() - began
    print(
        f"collections, {keys:,} keys: the longest {longest[0] * 1e3:.0f} ms while {PER_SECOND:,} of them come between "
        f"two, {longest[1] * 1e3:.0f} ms after that; all that there is takes {whole * 1e3:.0f} ms"
    )


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="*", default=["changes", "restore", "records", "beyond", "pauses", "snapshot", "ttl"]
    )
    parser.add_argument("--keys", nargs="*", type=int, default=[10_000, 100_000, 1_000_000, 5_000_000])
    given = parser.parse_args()
    gc.disable()  # as workers do
    if "changes" in given.what:
        measure_changes(100_000)
    if "restore" in given.what:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure_embedded(Path(folder), 500_000))
        measure_kafka(500_000)
    if "records" in given.what:
        for keys in given.keys:
            measure_records(keys)
    if "beyond" in given.what:
        keys = max(given.keys)
        with tempfile.TemporaryDirectory() as folder:
            spill = Spill(ColdTier(Path(folder), "bench"), lambda: keys * 260 // 4)
            measure_records(keys, spill, " beyond memory")
            spill.close()
    if "ttl" in given.what:
        asyncio.run(measure_ttl(100_000))
    if "pauses" in given.what:
        measure_pauses(max(given.keys))
    if "snapshot" in given.what:
        with tempfile.TemporaryDirectory() as folder:
            measure_snapshot(Path(folder), 1_000_000)


if __name__ == "__main__":
    main()
