"""Several real processes on one embedded log, and what is left when they are killed in the middle of it."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from streamd.transport.embedded.log import EmbeddedLog
from streamd.transport.embedded.reader import LogReader
from streamd.transport.embedded.transaction import EmbeddedTransaction

COPIER = Path(__file__).with_name("embedded_copier.py")
PARTITIONS = 4
RECORDS = 3000  # per partition


class Copier:
    """One process; a context manager, so that none is left behind."""

    def __init__(self, path, *partitions):
        command = [sys.executable, COPIER, path, *map(str, partitions)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def commits(self, count):
        """Wait until it has committed that many times; False when it ended before."""
        return all(self.process.stdout.readline() for _ in range(count))

    def ended(self):
        """Wait for its end, and give its exit code."""
        self.process.stdout.read()
        return self.process.wait()


async def fill(path):
    log = EmbeddedLog.acquire(path)
    await log.create_topic("in", PARTITIONS)
    await log.create_topic("out", 1)
    writer = EmbeddedTransaction(path, "fill")
    await writer.open()
    for partition in range(PARTITIONS):
        rows = [(b"%d" % partition, b"%d" % n, n, ()) for n in range(RECORDS)]
        writer.extend("in", partition, rows)
    await writer.commit()
    await writer.close()
    await log.release()


async def check(path):
    """Everything of `in` is in `out` exactly once, in order per key, and offsets have no gap."""
    log = EmbeddedLog.acquire(path)
    stream = await log.stream("out", 0)
    reader = LogReader(log, stream, 0)
    by_key = defaultdict(list)
    offsets = []
    while records := await reader.read(10_000, 0):
        for record in records:
            by_key[int(record.key)].append(int(record.value))
            offsets.append(record.offset)
    await reader.close()
    assert by_key == {partition: list(range(RECORDS)) for partition in range(PARTITIONS)}
    assert offsets == list(range(PARTITIONS * RECORDS))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    # Every blob belongs to a batch: nothing was left behind by those who died.
    assert connection.execute("SELECT count(*) FROM blob WHERE id NOT IN (SELECT blob FROM batch)").fetchone() == (0,)
    connection.close()


async def test_processes_write_one_partition_at_once(tmp_path):
    path = tmp_path / "app.db"
    await fill(path)
    with Copier(path, 0) as a, Copier(path, 1) as b, Copier(path, 2, 3) as c:
        assert [process.ended() for process in (a, b, c)] == [0, 0, 0]
    await check(path)


@pytest.mark.parametrize("seed", [1, 2])
async def test_processes_killed_again_and_again_lose_and_repeat_nothing(tmp_path, seed):
    path = tmp_path / "app.db"
    chance = random.Random(seed)
    await fill(path)
    kills = 0
    left = {(0, 1), (2, 3)}
    while left:
        group = chance.choice(sorted(left))
        with Copier(path, *group) as copier, Copier(path, *next(iter(left - {group}), ())) as other:
            # The kill falls wherever the process is after this commit was told: in the next read, append, or commit.
            if kills < 12 and copier.commits(chance.randint(1, 6)):
                copier.process.kill()
                kills += 1
                other.commits(1)
            elif copier.ended() == 0:
                left.discard(group)
    assert kills >= 5
    await check(path)


async def test_of_two_instances_of_a_task_one_goes_on(tmp_path):
    path = tmp_path / "app.db"
    await fill(path)
    with Copier(path, 0) as old:
        assert old.commits(2)
        with Copier(path, 0) as new:
            assert new.ended() == 0
            assert old.ended() in (3, 0)  # 0 when it was done before the other came
    with Copier(path, 1, 2, 3) as rest:
        assert rest.ended() == 0
    await check(path)
