"""What transactions cost a worker that has many partitions: the share of a core, and µs for each.

    bench/transactions.py [--partitions 100] [--seconds 20] [--rounds 2] [--keys 1] [--bootstrap HOST:PORT]

One worker runs a copying pipeline at `commit_interval: 1s`. Every partition gets ten records a second, either once a
second (so each partition has one transaction a second) or a hundred every ten seconds (one every ten seconds): the
same records, a tenth of the transactions. The difference is what transactions cost, with the fetches and wake-ups that
come with them. Then the same without any input. Without --bootstrap a Kafka broker of its own is started, and its CPU
time is told as well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import textwrap
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from aiokafka import AIOKafkaProducer

from faults.daemon import Daemon
from services.kafka import KafkaBroker, Topics

TICKS = os.sysconf("SC_CLK_TCK")
RECORDS = 10  # a second for each partition
COUNTED = "streamd_checkpoints_total"


@dataclass(frozen=True, slots=True)
class Cost:
    """One stretch of time. `worker`, `broker`: shares of a core; `transactions`: commits a second."""

    worker: float
    broker: float
    transactions: float


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def commits(port: int) -> float:
    """Checkpoints so far, as the node tells."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(COUNTED))


class Bench:
    """A node with one worker over a topic of many partitions."""

    def __init__(self, folder: Path, bootstrap: str, broker: int | None, partitions: int, keys: int) -> None:
        self._folder, self._bootstrap, self._broker = folder, bootstrap, broker
        self._partitions, self._keys = partitions, keys
        self._topics = Topics(bootstrap)
        self._node = Daemon(folder, workers=1, app="transactions")
        self._numbers = [0] * partitions

    async def open(self) -> None:
        self._input = await self._topics.make(self._partitions, "in")
        output = await self._topics.make(self._partitions, "out")
        (self._folder / "pipelines").mkdir()
        (self._folder / "pipelines" / "copy.yaml").write_text(
            textwrap.dedent(f"""
                name: {self._input}
                commit_interval: 1s
                kafka: {{bootstrap: "{self._bootstrap}"}}
                source: {{kafka: {{topic: {self._input}}}}}
                stages:
                  - filter: number >= 0
                sink: {{kafka: {{topic: {output}}}}}
            """)
        )
        self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks=1)
        await self._producer.start()
        await self._node.start()

    async def close(self) -> None:
        self._node.kill()
        await self._producer.stop()
        await self._topics.delete_all()

    async def measure(self, seconds: float, period: float) -> Cost:
        """Feed each partition every `period` seconds (0: never), and tell the cost beyond the first period."""
        warm_up = max(period, 3.0)
        feeding = asyncio.create_task(self._feed(warm_up + seconds, period)) if period else None
        await asyncio.sleep(warm_up)
        [worker] = await self._node.at_work()
        port = self._node._port
        began, at, done = self._cpu(worker), time.monotonic(), await asyncio.to_thread(commits, port)
        await asyncio.sleep(seconds)
        ended, after, more = self._cpu(worker), time.monotonic(), await asyncio.to_thread(commits, port)
        if feeding is not None:
            await feeding
        spent = [(b - a) / (after - at) for a, b in zip(began, ended, strict=True)]
        return Cost(spent[0], spent[1], (more - done) / (after - at))

    async def ready(self) -> None:
        """Wait until every task runs."""
        async with asyncio.timeout(120):
            while sum(place["tasks"] for place in await self._node.places()) < self._partitions:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await self._feed(3.0, 1.0)

    def _cpu(self, worker: int) -> tuple[float, float]:
        return cpu_seconds(worker), cpu_seconds(self._broker) if self._broker else 0.0

    async def _feed(self, seconds: float, period: float) -> None:
        """Partitions take turns, evenly over the period."""
        began, turn = time.monotonic(), 0
        gap = period / self._partitions
        sent = []
        while (now := time.monotonic() - began) < seconds:
            while turn * gap <= now:
                sent.append(await self._slice(turn % self._partitions, int(RECORDS * period)))
                turn += 1
            await asyncio.sleep(max(0.0, turn * gap - (time.monotonic() - began)))
        await asyncio.gather(*sent)

    async def _slice(self, partition: int, count: int) -> asyncio.Future[object]:
        batch = self._producer.create_batch()
        for _ in range(count):
            number = self._numbers[partition]
            self._numbers[partition] += 1
            key = f"{partition}-{number % self._keys}".encode()
            batch.append(key=key, value=b'{"number":%d}' % number, timestamp=1_700_000_000_000)
        batch.close()
        return await self._producer.send_batch(batch, self._input, partition=partition)


async def run(options: argparse.Namespace, folder: Path, bootstrap: str, broker: int | None) -> None:
    bench = Bench(folder, bootstrap, broker, options.partitions, options.keys)
    found: dict[str, list[Cost]] = {"each second": [], "every ten seconds": [], "no input": []}
    try:
        await bench.open()
        await bench.ready()
        for _ in range(options.rounds):
            for name, period in zip(found, (1.0, 10.0, 0.0), strict=True):
                cost = await bench.measure(options.seconds, period)
                found[name].append(cost)
                print(
                    f"{name}: worker {cost.worker:.1%} of a core, broker {cost.broker:.1%}, "
                    f"{cost.transactions:.1f} transactions/s (load {os.getloadavg()[0]:.1f})",
                    flush=True,
                )
    finally:
        await bench.close()
    often, seldom = found["each second"], found["every ten seconds"]
    shares = [a.worker - b.worker for a, b in zip(often, seldom, strict=True)]
    counts = [a.transactions - b.transactions for a, b in zip(often, seldom, strict=True)]
    brokers = [a.broker - b.broker for a, b in zip(often, seldom, strict=True)]
    each = statistics.median(share / count for share, count in zip(shares, counts, strict=True))
    print(
        f"{options.partitions} partitions, {statistics.median(counts):.0f} more transactions/s: "
        f"{statistics.median(shares):.1%} of a core in the worker ({each * 1e6:.0f} µs each), so "
        f"{each * options.partitions:.1%} for one a second in each partition; "
        f"broker {statistics.median(brokers):.1%}; idle {statistics.median(c.worker for c in found['no input']):.2%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keys", type=int, default=1, help="different keys in each partition")
    parser.add_argument("--bootstrap")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transactions-")))
        bootstrap, pid = options.bootstrap, None
        if bootstrap is None:
            broker = KafkaBroker(folder / "broker")
            stack.callback(broker.discard)
            broker.start()
            bootstrap, pid = broker.bootstrap, broker.pid
        (run_in := folder / "node").mkdir()
        asyncio.run(run(options, run_in, bootstrap, pid))


if __name__ == "__main__":
    main()
