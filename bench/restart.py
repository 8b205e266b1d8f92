"""How long a task with much state takes to come back, by the clock, on a real Kafka.

    bench/restart.py [--keys 1000000] [--rounds 2] [--bootstrap HOST:PORT]

A pipeline counts and sums for each of so many keys, with `state: {snapshots: true}`. Then it is started again, by
turns after a stop with its snapshot, after a stop without (the folder is deleted, so that it reads the whole
changelog), and after `kill -9` of its worker with 20,000 records behind the snapshot's last mark. For each: the
seconds from the beginning of the restore to its end, as the log says, and from the start of the process, or the
kill, to the output of a record that was fed before. Without --bootstrap a Kafka broker of its own is started.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from faults.daemon import Daemon
from services.kafka import KafkaBroker, Topics
from services.process import tail
from transactions import cpu_seconds

TAIL = 20_000  # records between a snapshot's mark and the stop
STOPPED, WHOLE, KILLED = "with its snapshot", "without a snapshot", "killed, with its snapshot"


class Bench:
    """A node over a topic of one partition, and who reads what it writes."""

    def __init__(self, folder: Path, bootstrap: str, keys: int) -> None:
        self._folder, self._bootstrap, self._keys = folder, bootstrap, keys
        self._topics = Topics(bootstrap)
        self._node = Daemon(folder, workers=1, app="restart")
        self._sent = self._got = 0

    async def open(self) -> None:
        self._input, self._output = await self._topics.make(1, "in"), await self._topics.make(1, "out")
        (self._folder / "pipelines").mkdir()
        (self._folder / "pipelines" / "restart.yaml").write_text(
            textwrap.dedent(f"""
                name: {self._input}
                kafka: {{bootstrap: "{self._bootstrap}"}}
                state: {{snapshots: true}}
                source: {{kafka: {{topic: {self._input}, partitioned_by: user}}}}
                stages:
                  - aggregate: {{by: user, values: {{count: count(), sum: sum(amount)}}}}
                sink: {{kafka: {{topic: {self._output}}}}}
            """)
        )
        self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks=1)
        await self._producer.start()
        self._place = TopicPartition(self._output, 0)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, isolation_level="read_committed")
        await self._consumer.start()
        self._consumer.assign([self._place])
        await self._consumer.seek_to_beginning(self._place)

    async def close(self) -> None:
        self._node.kill()
        await self._consumer.stop()
        await self._producer.stop()
        await self._topics.delete_all()

    async def fill(self) -> None:
        """Have the pipeline know all keys, in no order, and its snapshot follow."""
        await self._node.start()
        order = list(range(self._keys))
        random.Random(1).shuffle(order)
        for at in range(0, len(order), 100_000):
            await self.feed(order[at : at + 100_000])
            await self.answered()
        await asyncio.sleep(12)  # until a mark is due
        await self.feed(order[:TAIL])
        await self.answered()

    async def stop(self) -> None:
        assert await self._node.drain() == 0

    async def feed(self, users: list[int]) -> None:
        """A record for each of these."""
        pending = []
        for start in range(0, len(users), 5_000):
            batch = self._producer.create_batch()
            for user in users[start : start + 5_000]:
                value = b'{"user":"user-%08d","amount":1.25,"number":%d}' % (user, self._sent)
                if batch.append(key=b"user-%08d" % user, value=value, timestamp=None) is None:
                    batch.close()
                    pending.append(await self._producer.send_batch(batch, self._input, partition=0))
                    batch = self._producer.create_batch()
                    batch.append(key=b"user-%08d" % user, value=value, timestamp=None)
                self._sent += 1
            batch.close()
            pending.append(await self._producer.send_batch(batch, self._input, partition=0))
        await asyncio.gather(*pending)

    async def answered(self) -> None:
        """Wait until everything that was fed has come out."""
        async with asyncio.timeout(600):
            while True:
                found = await self._consumer.getmany(timeout_ms=20)
                self._got += sum(map(len, found.values()))
                if self._got >= self._sent:
                    return
                self._node.check()

    async def restart(self, how: str) -> str:
        """Stop or kill, start, and what that took."""
        if how == KILLED:
            await self.feed(random.sample(range(self._keys), TAIL))
            await self.answered()
        else:
            await self.stop()
        if how == WHOLE:
            [snapshots] = (self._folder / "state").glob("**/snapshots")
            shutil.rmtree(snapshots)
        await self.feed([0])
        seen = self._node.log.stat().st_size
        began = time.monotonic()
        if how == KILLED:
            [worker] = await self._node.at_work()
            os.kill(worker, signal.SIGKILL)
            await self.feed([0])
        else:
            await self._node.start()
        await self.answered()
        took = time.monotonic() - began
        [worker] = await self._node.at_work()
        with self._node.log.open() as log:
            log.seek(seen)
            lines = [json.loads(line) for line in log if line.startswith("{")]
        restored = next(line for line in lines if line["event"] == "State restored" and line["records"])
        count, seconds = restored["records"] + restored["local"], restored["seconds"]
        return (
            f"{how}: {restored['local']:,} keys and {restored['records']:,} records restored in {seconds:.2f} s "
            f"({count / seconds:,.0f}/s), all output {took:.2f} s after the start or kill; by then the worker "
            f"had used {cpu_seconds(worker):.2f} s of CPU (load {os.getloadavg()[0]:.1f})"
        )


async def run(options: argparse.Namespace, folder: Path, bootstrap: str) -> None:
    bench = Bench(folder, bootstrap, options.keys)
    try:
        await bench.open()
        await bench.fill()
        for _ in range(options.rounds):
            for how in (STOPPED, WHOLE, KILLED):
                print(await bench.restart(how), flush=True)
                await asyncio.sleep(12)
                await bench.feed([1])
                await bench.answered()
    except BaseException:
        print(tail(folder / "streamd.log"), file=sys.stderr)
        raise
    finally:
        await bench.close()


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bootstrap")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="restart-")))
        bootstrap = options.bootstrap
        if bootstrap is None:
            broker = KafkaBroker(folder / "broker")
            stack.callback(broker.discard)
            broker.start()
            bootstrap = broker.bootstrap
        (node := folder / "node").mkdir()
        asyncio.run(run(options, node, bootstrap))


if __name__ == "__main__":
    main()
