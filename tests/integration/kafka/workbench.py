"""What the tests of the Kafka data plane share: transactions, readers, and a proxy that spoils answers."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import uuid
from collections.abc import Callable
from typing import Any

from streamd.record import TaskId
from streamd.transport.kafka.batch_commit import KafkaBatchCommit
from streamd.transport.kafka.client import LATEST, KafkaClient
from streamd.transport.kafka.reader import PartitionReader
from streamd.transport.kafka.transactional import KafkaTransaction, TransactionOptions

API_KEYS = {"produce": 0, "offset_fetch": 9, "add_partitions": 24, "add_offsets": 25, "end_txn": 26, "offsets": 28}
SOURCE = ("in", 0)


class Workbench:
    """Makes transactions and readers of one test, and closes them after it."""

    def __init__(self, client: KafkaClient) -> None:
        self.client = client
        self.task = TaskId("test", uuid.uuid4().hex, 0, 0)
        self.group = f"group-{self.task.pipeline}"
        self._open: list[Any] = []

    def transaction(self, source: str | None = None, *, client: KafkaClient | None = None, **options: Any) -> Any:
        """A transaction of the test's one task, which reads partition 0 of the topic `source`; not opened."""
        return self._made(KafkaTransaction, source, client, options)

    def batch_commit(self, source: str | None = None, **options: Any) -> Any:
        """The same, at least once."""
        return self._made(KafkaBatchCommit, source, None, options)

    def _made(self, kind: Any, source: str | None, client: KafkaClient | None, options: dict[str, Any]) -> Any:
        sources = {SOURCE: source} if source else {}
        made = kind(client or self.client, self.task, sources, self.group, TransactionOptions(**options))
        self._open.append(made)
        return made

    def reader(self, topic: str, position: int = 0, partition: int = 0, **options: Any) -> PartitionReader:
        reader = PartitionReader(self.client, topic, partition, position, **options)
        self._open.append(reader)
        return reader

    async def close(self) -> None:
        for opened in reversed(self._open):
            await opened.close()


async def read_until(reader: PartitionReader, count: int, deadline: float = 20.0) -> list[Any]:
    """Records until `count` have come."""
    found: list[Any] = []
    async with asyncio.timeout(deadline):
        while len(found) < count:
            found += await reader.read(1000, 1.0)
    return found


async def read_to_end(reader: PartitionReader, end: int, deadline: float = 20.0) -> list[Any]:
    """Records until the position is `end`."""
    found: list[Any] = []
    async with asyncio.timeout(deadline):
        while reader.position() < end:
            found += await reader.read(1000, 1.0)
    return found


async def commit(transaction: Any, offset: int, cursors: dict[str, Any] | None = None) -> None:
    """Steps 2 to 4 of a checkpoint."""
    await transaction.flush()
    await transaction.put_positions({SOURCE: offset}, cursors or {})
    await transaction.commit()


class Proxy:
    """Stands between a client and a broker, and spoils the answers (or requests) it is told to.

    `rules`: {request's api key: what to do with the next one}: `lose_answer` or `lose_request` (the connection breaks
    after or before the broker got it), or a function from the answer's bytes to others. Each is used once for every
    time it was put there.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.rules: dict[int, list[str | Callable[[bytes], bytes]]] = {}
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def spoil(self, request: str, *rules: str | Callable[[bytes], bytes]) -> None:
        self.rules.setdefault(API_KEYS[request], []).extend(rules)

    @property
    def done(self) -> bool:
        """Every rule was used."""
        return not any(self.rules.values())

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # connections that were aborted are closed in the loop's next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            broker_reader, broker_writer = await asyncio.open_connection(*self._target)
        except BaseException:
            writer.close()
            self._tasks.discard(task)
            raise
        asked: list[int] = []
        pumps = [
            asyncio.create_task(self._requests(reader, broker_writer, asked)),
            asyncio.create_task(self._answers(broker_reader, writer, asked)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First of all, and at once: `stop` may cancel what is awaited after it.
            for side in (writer, broker_writer):
                side.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._tasks.discard(task)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: list[int]) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await _frame(reader)
                (key,) = struct.unpack_from(">h", frame)
                if self.rules.get(key, [None])[:1] == ["lose_request"]:
                    self.rules[key].pop(0)
                    return
                asked.append(key)
                writer.write(len(frame).to_bytes(4, "big") + frame)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: list[int]) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await _frame(reader)
                rules = self.rules.get(asked.pop(0))
                if rules:
                    rule = rules.pop(0)
                    if not callable(rule):
                        return
                    frame = rule(frame)
                writer.write(len(frame).to_bytes(4, "big") + frame)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


async def until(condition: Callable[[], object], deadline: float = 30.0) -> None:
    """Wait for something that nothing announces."""
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def settled(client: KafkaClient, topic: str, end: int) -> int:
    """Wait until everything before `end` is stable: markers are written after the commit was acknowledged."""
    async with asyncio.timeout(20):
        while (found := await client.find_offset(topic, 0, LATEST)) < end:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found
