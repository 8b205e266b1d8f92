"""The two systems that a pipeline is run on, Kafka and the embedded log, alike for whoever feeds and looks."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import textwrap
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from faults.oracle import KEYS, Verdict, document, judge, partition_of
from services.kafka import Topics, read_topic
from streamd.transport.embedded.log import EmbeddedLog, log_path
from streamd.transport.embedded.transaction import EmbeddedTransaction

IN_PARTITIONS = 3
OUT_PARTITIONS = 4
META = b"__meta__"
# A broker that crashes forgets idempotent producers whose newest record is older than `producer.id.expiration.ms`, and
# takes what such a producer sends again for new: the input itself would come twice.
TIMESTAMP = int(time.time() * 1000)
APP = "faults"

# What a stage with state says of each record: how many its key had so far, and the sum of their numbers.
COUNTING = """
  - aggregate: {by: key, values: {number: last(number), double: last(double), seen: count(), total: sum(number)}}
    id: totals
"""

# Counts what a stage has seen, over all processes and lives: what was seen and did not come out was dropped.
WITNESS = """
import os

class Witness:
    def __init__(self, file):
        self.file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def process(self, batch):
        os.write(self.file, b"%d\\n" % len(batch))
        return batch
"""


def key_in(changed: bytes) -> Any:
    """The key of a store's table that a record of its changelog is about."""
    return orjson.loads(changed.partition(b":")[2])


class System(ABC):
    """Input, output and pipeline of one run. `newest` is by input partition: the last record of it that came out.

    `begun`: how many records were fed or are being fed. `stateful`: the pipeline has a stage that counts. `settings`:
    lines of the pipeline's own, `{name: value}`.
    """

    name: str

    def __init__(self, folder: Path, *, stateful: bool = False, settings: Mapping[str, object] | None = None) -> None:
        self.folder = folder
        self.stateful = stateful
        self._lines = "".join(f"{name}: {value}\n" for name, value in (settings or {}).items())
        self.fed = 0
        self.begun = 0
        self.came = 0
        self.newest = dict.fromkeys(range(IN_PARTITIONS), -1)
        self.newest_at = dict.fromkeys(range(IN_PARTITIONS), 0.0)
        self._follower: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make the topics and the pipeline's file, and begin to follow the output."""
        pipelines = self.folder / "pipelines"
        pipelines.mkdir()
        text = await self._set_up()
        if self.stateful:
            head, _, tail = text.partition("sink:")
            text = f"{head.rstrip()}{COUNTING}sink:{tail}"
        (pipelines / "copy.yaml").write_text(text + self._lines)
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Release everything."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await self._tear_down()

    async def feed(self, count: int) -> None:
        """Feed the next `count` records."""
        values: list[list[tuple[bytes, bytes]]] = [[] for _ in range(IN_PARTITIONS)]
        for n in range(self.fed, self.fed + count):
            pair = str(n % KEYS).encode(), orjson.dumps(document(n))
            values[partition_of(n, IN_PARTITIONS)].append(pair)
        self.begun = self.fed + count
        await self._write(values)
        self.fed = self.begun

    def check(self) -> None:
        """Raises what ended the following of the output."""
        if self._follower is not None and self._follower.done():
            self._follower.result()

    async def until(self, condition: Any, what: str, deadline: float = 60.0) -> None:
        """Wait until a plain condition holds; raises TimeoutError naming `what`."""
        try:
            async with asyncio.timeout(deadline):
                while not condition():
                    self.check()
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise TimeoutError(f"{what}: not within {deadline:g} s; {self.came} of {self.fed} came") from None

    async def complete(self, deadline: float = 90.0) -> None:
        """Wait until as many have come out as were fed."""
        await self.until(lambda: self.came >= self.fed, "everything comes out", deadline)

    async def settled(self, deadline: float = 90.0) -> None:
        """Wait until everything that was fed is committed, however often it came out."""
        async with asyncio.timeout(deadline):
            while await self._positions() != await self._ends():
                self.check()
                await asyncio.sleep(0.05)

    async def resumed(self, deadline: float = 60.0) -> float:
        """Wait until records fed from now on come out of every input partition; monotonic seconds of the last."""
        mark = self.begun
        await self.until(lambda: min(self.newest.values()) >= mark, "output resumes", deadline)
        return max(self.newest_at.values())

    async def verdict(self) -> Verdict:
        """What came out, against what was fed. Nothing may run any more."""
        state = await self._state() if self.stateful else None
        return judge(self.fed, await self._outputs(), await self._positions(), await self._ends(), state)

    @abstractmethod
    async def dropped(self) -> int:
        """How many records were worked on, or even written, without ever being committed."""

    @abstractmethod
    async def open_transactions(self) -> int:
        """How many output partitions have something that is neither committed nor aborted."""

    def _saw(self, values: Iterable[bytes]) -> None:
        now = time.monotonic()
        for value in values:
            found = orjson.loads(value)
            n = found["number"] * KEYS + found["key"]
            partition = partition_of(n, IN_PARTITIONS)
            self.newest[partition] = max(n, self.newest[partition])
            self.newest_at[partition] = now
            self.came += 1

    @abstractmethod
    async def _set_up(self) -> str: ...
    @abstractmethod
    async def _tear_down(self) -> None: ...
    @abstractmethod
    async def _follow(self) -> None: ...
    @abstractmethod
    async def _write(self, values: list[list[tuple[bytes, bytes]]]) -> None: ...
    @abstractmethod
    async def _outputs(self) -> list[list[dict[str, Any]]]: ...
    @abstractmethod
    async def _positions(self) -> dict[int, int]: ...
    @abstractmethod
    async def _ends(self) -> dict[int, int]: ...
    @abstractmethod
    async def _state(self) -> dict[Any, Any]: ...


class KafkaSystem(System):
    """Topics of a real broker. `options` are Kafka settings of the pipeline, `output_settings` of the output topic."""

    name = "kafka"

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        *,
        stateful: bool = False,
        settings: Mapping[str, object] | None = None,
        output_settings: Mapping[str, object] | None = None,
        **options: object,
    ) -> None:
        super().__init__(folder, stateful=stateful, settings=settings)
        self._output_settings = dict(output_settings or {})
        self.bootstrap = bootstrap
        self.pipeline = f"copy-{uuid.uuid4().hex[:8]}"
        self._options = "".join(f"\n    {name}: {value}" for name, value in options.items())
        self._topics = Topics(bootstrap)
        self._producer: AIOKafkaProducer | None = None

    @property
    def group(self) -> str:
        """The pipeline's group."""
        return f"streamd.{APP}.{self.pipeline}"

    async def _set_up(self) -> str:
        self.input = await self._topics.make(IN_PARTITIONS)
        self.output = await self._topics.make(OUT_PARTITIONS, **self._output_settings)
        self._producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True)
        await self._producer.start()
        options = f"\n  options:{self._options}" if self._options else ""
        return textwrap.dedent("""
            name: {pipeline}
            kafka:
              bootstrap: "{bootstrap}"{options}
            source: {{kafka: {{topic: {input}, partitioned_by: key}}}}
            stages:
              - filter: number >= 0
              - set: {{double: number * 2}}
            sink: {{kafka: {{topic: {output}}}}}
        """).format(
            pipeline=self.pipeline, bootstrap=self.bootstrap, options=options, input=self.input, output=self.output
        )

    async def _tear_down(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
        await self._topics.delete_all()

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(self.output, p) for p in range(OUT_PARTITIONS)])
            while True:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    self._saw(record.value for record in records)
        finally:
            await consumer.stop()

    async def _write(self, values: list[list[tuple[bytes, bytes]]]) -> None:
        assert self._producer is not None
        sent = []
        for partition, pairs in enumerate(values):
            left = iter(pairs)
            pair = next(left, None)
            while pair is not None:
                batch = self._producer.create_batch()
                while pair is not None and batch.append(key=pair[0], value=pair[1], timestamp=TIMESTAMP) is not None:
                    pair = next(left, None)
                batch.close()
                sent.append(await self._producer.send_batch(batch, self.input, partition=partition))
        for future in sent:
            await future

    async def _outputs(self) -> list[list[dict[str, Any]]]:
        partitions: list[list[dict[str, Any]]] = [[] for _ in range(OUT_PARTITIONS)]
        for record in await read_topic(self.bootstrap, self.output):
            partitions[record.partition].append(orjson.loads(record.value))
        return partitions

    async def _positions(self) -> dict[int, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(self.group)
        finally:
            await admin.close()
        return {at.partition: found.offset for at, found in offsets.items() if at.topic == self.input}

    async def _ends(self) -> dict[int, int]:
        return await self._ends_of(self.input, IN_PARTITIONS, "read_uncommitted")

    async def dropped(self) -> int:
        """Records that a reader of uncommitted ones sees, and nobody else."""
        return len(await read_topic(self.bootstrap, self.output, committed=False)) - self.came

    async def open_transactions(self) -> int:
        """Partitions whose last stable offset is not their end."""
        stable = await self._ends_of(self.output, OUT_PARTITIONS, "read_committed")
        ends = await self._ends_of(self.output, OUT_PARTITIONS, "read_uncommitted")
        return sum(stable[partition] != end for partition, end in ends.items())

    @property
    def changelog(self) -> str:
        """The topic with the counts."""
        return f"streamd.{APP}.{self.pipeline}.totals.changelog"

    async def _state(self) -> dict[Any, Any]:
        """Compacted here: what a reader of committed records finds as the last of each key."""
        kept: dict[Any, Any] = {}
        home: dict[Any, int] = {}
        for record in sorted(await read_topic(self.bootstrap, self.changelog), key=lambda r: (r.partition, r.offset)):
            if record.key != META:
                key = key_in(record.key)
                assert home.setdefault(key, record.partition) == record.partition, f"key {key} is in two changelogs"
                kept[key] = orjson.loads(record.value) if record.value else None
        return kept

    async def _ends_of(self, topic: str, partitions: int, isolation: str) -> dict[int, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, isolation_level=isolation)
        await consumer.start()
        try:
            ends = await consumer.end_offsets([TopicPartition(topic, p) for p in range(partitions)])
        finally:
            await consumer.stop()
        return {at.partition: end for at, end in ends.items()}


class EmbeddedSystem(System):
    """Topics of the embedded log of the daemon's state folder."""

    name = "embedded"

    def __init__(self, folder: Path, *, stateful: bool = False, settings: Mapping[str, object] | None = None) -> None:
        super().__init__(folder, stateful=stateful, settings=settings)
        self._path = log_path(folder / "state" / APP, APP)
        self._witness = folder / "seen"
        self._log: EmbeddedLog | None = None
        self._input: EmbeddedTransaction | None = None

    async def _set_up(self) -> str:
        self._path.parent.mkdir(parents=True)
        (self.folder / "pipelines" / "witness.py").write_text(WITNESS)
        self._log = EmbeddedLog.acquire(self._path)
        await self._log.create_topic("in", IN_PARTITIONS)
        await self._log.create_topic("out", OUT_PARTITIONS)
        self._input = EmbeddedTransaction(self._path, "the test's input")
        await self._input.open()
        return textwrap.dedent(f"""
            name: copy
            source: {{log: {{topic: in, partitions: {IN_PARTITIONS}, partitioned_by: key}}}}
            stages:
              - filter: number >= 0
              - set: {{double: number * 2}}
              - python: {{class: "witness:Witness", options: {{file: "{self._witness}"}}}}
            sink: {{log: {{topic: out}}}}
        """)

    async def _tear_down(self) -> None:
        if self._input is not None:
            await self._input.close()
        if self._log is not None:
            await self._log.release()

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as group:
            assert self._log is not None
            for stream in await self._log.streams("out"):
                group.create_task(self._follow_one(stream.id, stream.partition))

    async def _follow_one(self, stream: int, partition: int) -> None:
        assert self._log is not None
        await self._log.stream("out", partition)
        at = 0
        while True:
            if await self._log.wait(stream, at, 1.0) and (records := await self._log.fetch(stream, at, 5_000, 1 << 22)):
                self._saw(record.value or b"" for record in records)
                at = records[-1].offset + 1

    async def _write(self, values: list[list[tuple[bytes, bytes]]]) -> None:
        assert self._input is not None
        self._input.begin()
        for partition, pairs in enumerate(values):
            self._input.extend("in", partition, [(key, value, TIMESTAMP, ()) for key, value in pairs])
        await self._input.flush()
        await self._input.commit()

    async def _outputs(self) -> list[list[dict[str, Any]]]:
        assert self._log is not None
        partitions: list[list[dict[str, Any]]] = []
        for stream in await self._log.streams("out"):
            documents: list[dict[str, Any]] = []
            at = 0
            while records := await self._log.fetch(stream.id, at, 10_000, 1 << 24):
                documents.extend(orjson.loads(record.value or b"") for record in records)
                at = records[-1].offset + 1
            partitions.append(documents)
        return partitions

    async def _positions(self) -> dict[int, int]:
        rows = await asyncio.to_thread(self._ask, "SELECT partition, position FROM position WHERE source='source'")
        return {partition: int(position) for partition, position in rows}

    async def _ends(self) -> dict[int, int]:
        rows = await asyncio.to_thread(self._ask, "SELECT partition, next FROM stream WHERE topic='in'")
        return dict(rows)

    async def _state(self) -> dict[Any, Any]:
        rows = await asyncio.to_thread(self._ask, "SELECT key, value FROM changelog WHERE store='totals'")
        kept = {key_in(key): orjson.loads(value) for key, value in rows if key != META}
        assert len(kept) == sum(key != META for key, _ in rows), "a key is in two changelogs"
        return kept

    async def dropped(self) -> int:
        """Records that the witness saw more often than they came out."""
        return sum(int(line) for line in self._witness.read_text().splitlines()) - self.came

    async def open_transactions(self) -> int:
        """Outputs that were put down and are part of no checkpoint."""
        [(count,)] = await asyncio.to_thread(self._ask, "SELECT count(*) FROM staged")
        return int(count)

    def _ask(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            return connection.execute(query).fetchall()


class FileSystem(EmbeddedSystem):
    """From the embedded log to files, one for each input partition; `came` counts what is committed."""

    async def _set_up(self) -> str:
        head, _, _ = (await super()._set_up()).partition("sink:")
        return head + "sink: {file: {path: '../out/{partition}.ndjson'}}\n"

    async def _follow(self) -> None:
        while True:
            positions = await self._positions()
            self.came = sum(positions.values())
            # A key's records are in one partition, and the keys of a partition take turns.
            for partition, position in positions.items():
                self.newest[partition] = (position - 1) * IN_PARTITIONS + partition
            await asyncio.sleep(0.02)

    async def _outputs(self) -> list[list[dict[str, Any]]]:
        files = sorted((self.folder / "out").glob("*.ndjson"))
        return [[orjson.loads(line) for line in file.read_bytes().splitlines()] for file in files]
